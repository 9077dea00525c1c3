"""The demo, as anybody runs it: a worker is killed in the middle, and each push still gets exactly one status."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from wakelog.postgres.embedded import EmbeddedPostgres

COMMAND = [sys.executable, "-c", "from wakelog_cli.main import main; main()", "demo"]


def _start(folder: Path, *arguments: str, database: str | None = None) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    # TMPDIR, so that what is left behind can be seen; the ceiling, so that no repository above is taken.
    environment |= {"TMPDIR": str(folder), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    if database is not None:
        environment["DATABASE_URL"] = database
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _left_behind(folder: Path) -> list[str]:
    """Processes that work in the folder, or were started for it."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in told:
                found.append(told[:200].decode(errors="replace"))
    return found


def _one(connection: "psycopg.Connection[Any]", query: Any, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def test_a_killed_worker_costs_nothing_but_a_second(tmp_path: Path, empty_database: str) -> None:
    demo = _start(tmp_path, "--commits", "1", "--json", database=empty_database)
    out, err = demo.communicate(timeout=60)

    assert demo.returncode == 0, err
    result = json.loads(out)
    assert result["ok"] is True
    [push] = result["pushes"]
    assert (push["statuses"], push["state"], push["results_recorded"]) == (1, "success", 3)
    assert push["checks"]["tests"]["summary"] == "8 tests passed"
    killed = result["killed"]
    assert killed["attempts"] == 2
    assert killed["taken_over_by"] != killed["worker"]
    assert 0 < killed["files_done"] < killed["files"]
    assert killed["files_scanned_after"] <= killed["files"] - killed["files_done"]

    with psycopg.connect(empty_database) as connection:
        assert _one(connection, "select count(*) from wakelog.events where type = 'ci.status'") == 1
        assert _one(connection, "select count(*) from ci.results") == 3
        assert _one(connection, "select count(*) from wakelog.events where type like '%%.completed'") == 3
        assert _one(connection, "select count(*) from wakelog.in_flight") == 0
        assert _one(connection, "select count(*) from wakelog.dead_letters") == 0
        assert _one(connection, "select sum(stalled) from wakelog.history where stalled > 0") >= 1
        assert _one(connection, "select count(*) from wakelog.workers where alive") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_ctrl_c_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = _start(tmp_path, "--commits", "1")
    assert demo.stdout is not None
    said: list[str] = []
    for line in demo.stdout:
        said.append(line)
        if "Killed process" in line:
            break
    # To all of them, as a terminal does; and twice, as impatient people do.
    os.killpg(demo.pid, signal.SIGINT)
    time.sleep(0.1)
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGINT)
    _, err = demo.communicate(timeout=60)

    assert demo.returncode == 130, (said, err)
    assert _left_behind(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".wakelog"]
    assert not EmbeddedPostgres(tmp_path / ".wakelog").running


def test_other_workers_are_not_given_its_pushes(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select wakelog.start_worker('somebody', array['tests'], true)")
        demo = _start(tmp_path, database=database)
        _, err = demo.communicate(timeout=60)
        assert demo.returncode == 5, err
        assert "somebody" in err
        assert _one(connection, "select count(*) from wakelog.events") == 0


def test_a_repository_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    demo = _start(tmp_path, "--repo", str(tmp_path / "nowhere"))
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert len(err.strip().splitlines()) == 1
    assert "found no such folder" in err


def test_git_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    demo = _start(tmp_path)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "expected git" in err
