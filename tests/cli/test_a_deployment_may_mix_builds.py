"""Between the upgrade and the last restart, workers of one build work on the functions of another."""

from pathlib import Path

import psycopg
import pytest
from tests.cli.command import Processes
from tests.worker.waiting import one, until

APP = """
from wakelog import Wakelog

app = Wakelog("hello")

@app.agent("greet", on="hello", start="beginning")
def greet(event, ctx):
    return {"greeting": "hello"}
"""

NOTE = "select obj_description('wakelog'::regnamespace)"
GREETED = "select count(*) from wakelog.events where type = 'greet.completed'"


@pytest.mark.parametrize("command", ["worker", "up"])
@pytest.mark.parametrize("version", ["0.0.1", "99.1.0"])
def test_a_worker_starts_on_older_and_on_newer_functions(
    database: str, processes: Processes, tmp_path: Path, command: str, version: str
) -> None:
    (tmp_path / "hello.py").write_text(APP)
    with psycopg.connect(database, autocommit=True) as connection:
        note = f"Wakelog {version}, functions 0123456789abcdef"
        connection.execute(f"comment on schema wakelog is '{note}'".encode())
        connection.execute("insert into wakelog.events (type) values ('hello')")
        process = processes.start(command, "hello.py", folder=tmp_path, DATABASE_URL=database)
        until(lambda: process.poll() is not None or one(connection, GREETED) == 1)
        process.terminate()
        _, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
        # Only `up` upgrades, and never a newer one.
        replaced = command == "up" and version == "0.0.1"
        assert (one(connection, NOTE) == note) is not replaced
        assert ("functions of another build" in error) is not replaced


def test_a_function_that_is_not_there_yet_is_said_with_the_next_command(
    database: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "hello.py").write_text(APP)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop function wakelog.start_worker(text, text[], boolean)")
        process = processes.start("worker", "hello.py", folder=tmp_path, DATABASE_URL=database)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "wakelog.start_worker" in error
    assert error.rstrip().endswith("wakelog db upgrade")
