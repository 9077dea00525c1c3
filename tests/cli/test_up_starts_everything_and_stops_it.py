"""wakelog up: a private database, its schema and its workers; other commands find it; Ctrl-C leaves nothing behind."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

from tests.cli.command import Processes

from wakelog.postgres.embedded import EmbeddedPostgres

APP = """
from wakelog import Wakelog

app = Wakelog("hello")

@app.agent("greet", on="hello", start="beginning")
def greet(event, ctx):
    return {"greeting": "hello " + event.payload["name"]}
"""

Eventually = Callable[[Callable[[], bool], str], None]


def test_an_application_in_a_fresh_folder(
    processes: Processes, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "hello.py").write_text(APP)
    below = tmp_path / "below"
    below.mkdir()
    up = processes.start("up", "hello.py", "--json", folder=tmp_path)
    assert up.stdout is not None
    said = json.loads(up.stdout.readline())
    assert said["event"] == "up"
    assert json.loads(up.stdout.readline())["event"] == "ready"

    def output(*arguments: str) -> str:
        out, err = (command := processes.start(*arguments, folder=below)).communicate(timeout=30)
        assert (command.returncode, err) == (0, "")
        return out

    assert output("db", "url", "--psql").strip() == said["url"]
    output("append", "hello", '{"name": "you"}')
    eventually(lambda: "hello you" in output("tail", "--type", "greet.completed"), "the greeting")
    assert json.loads(output("workers", "--json"))[0]["agents"] == ["greet"]
    assert json.loads(output("doctor", "--json"))["healthy"] is True

    up.send_signal(signal.SIGINT)
    out, err = up.communicate(timeout=60)
    assert up.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["event"] == "stopping"
    assert "Traceback" not in err
    assert not EmbeddedPostgres(tmp_path / ".wakelog").running


def test_without_an_application_it_keeps_the_doors(
    database: str, processes: Processes, tmp_path: Path
) -> None:
    up = processes.start("up", folder=tmp_path, DATABASE_URL=database)
    assert up.stdout is not None
    assert "look inside" in up.stdout.readline()
    up.send_signal(signal.SIGTERM)
    up.communicate(timeout=30)
    assert not (tmp_path / ".wakelog").exists()
