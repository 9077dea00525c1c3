"""`wakelog projection` shows how projections stand and where one stopped, and steers them; doctor says what to do."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

from wakelog.testing import LogUnderTest

Connection = psycopg.Connection[Any]

APP = """
from wakelog import Wakelog

app = Wakelog("ci")


@app.projection("runs", on="run.#", tables="create table runs (run text primary key, state text not null)")
def runs(event, connection):
    connection.execute(
        "insert into runs values (%s, %s) on conflict (run) do update set state = excluded.state",
        [event.payload["run"], event.type.removeprefix("run.")],
    )
"""


@pytest.fixture
def app(connection: Connection, database: str, tmp_path: Path) -> str:
    """A file with an application whose projection has folded three events; the third ended a run."""
    from wakelog.agents.load import load_app

    path = tmp_path / "ci.py"
    path.write_text(APP)
    with LogUnderTest(database) as log:
        for type_, run in [("run.begun", "1"), ("run.begun", "2"), ("run.ended", "1")]:
            log.append(type_, {"run": run})
        log.run_until_idle(load_app(str(path)))
    return str(path)


def stop_it(connection: Connection, database: str, app: str) -> None:
    from wakelog.agents.load import load_app

    with LogUnderTest(database) as log:
        log.append("run.ended", {"no": "run"})
        log.append("run.ended", {"run": "2"})
        with pytest.raises(AssertionError):
            log.run_until_idle(load_app(app))


def run_on(database: str, app: str) -> None:
    from wakelog.agents.load import load_app

    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(app))


def rows(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("select * from runs.runs order by 1").fetchall()


def test_there_are_none(wakelog: Wakelog) -> None:
    assert "wakelog worker module:app" in wakelog("projection", "list").out


def test_list_and_show(wakelog: Wakelog, app: str) -> None:
    (one,) = wakelog("projection", "list", "--json").json
    assert (one["projection"], one["state"], one["position"], one["behind"]) == ("runs", "serving", 3, 0)
    assert "nobody folds it" in wakelog("projection", "list").out
    shown = wakelog("projection", "show", "runs").out
    assert "3 of 3, 0 behind" in shown
    assert wakelog("projection", "show", "runs", "--json").json["builds"][0]["version"] == 1


def test_where_it_stopped_and_what_goes_on(
    wakelog: Wakelog, app: str, connection: Connection, database: str
) -> None:
    stop_it(connection, database, app)
    for shown in (wakelog("projection", "list").out, wakelog("projection", "show", "runs").out):
        assert "KeyError: 'run'" in shown
        assert "wakelog projection resume runs" in shown
    doctor = wakelog("doctor", "--json")
    assert doctor.code == 1
    (found,) = (check for check in doctor.json["checks"] if check["check"] == "projection runs")
    assert found["found"].startswith("stopped at position 4 (run.ended): KeyError: 'run'")
    assert rows(connection) == [("1", "ended"), ("2", "begun")]

    assert wakelog("projection", "resume", "runs", "--skip").code == 0
    run_on(database, app)
    assert rows(connection) == [("1", "ended"), ("2", "ended")]
    shown = wakelog("projection", "show", "runs", "--json").json
    assert [skip["position"] for skip in shown["skips"]] == [4]
    # What was skipped once is skipped when it is made anew.
    assert wakelog("projection", "rebuild", "runs", "--app", app).code == 0
    assert wakelog("projection", "verify", "runs", "--app", app).code == 0


def test_pause_and_resume(wakelog: Wakelog, app: str, connection: Connection, database: str) -> None:
    assert wakelog("projection", "pause", "runs").code == 0
    connection.execute("select wakelog.append('run.begun', '{\"run\": \"3\"}')")
    run_on(database, app)
    assert len(rows(connection)) == 2
    assert "wakelog projection resume runs" in wakelog("projection", "list").out
    assert wakelog("projection", "resume", "runs").code == 0
    run_on(database, app)
    assert len(rows(connection)) == 3


def test_rebuild_says_what_it_did(wakelog: Wakelog, app: str, connection: Connection) -> None:
    connection.execute("delete from runs.runs")
    ended = wakelog("projection", "rebuild", "runs", "--app", app)
    assert ended.out.startswith("runs version 1 is made anew and serves, at position 3 (3 positions in ")
    assert len(rows(connection)) == 2


def test_as_it_was(wakelog: Wakelog, app: str, connection: Connection) -> None:
    shown = wakelog("projection", "show", "runs", "--position", "2", "--app", app, "--json")
    assert shown.json["tables"] == {"runs": [{"run": "1", "state": "begun"}, {"run": "2", "state": "begun"}]}
    shown = wakelog("projection", "show", "runs", "--at", "now", "--into", "runs_then", "--app", app)
    assert shown.code == 0, shown.err
    assert connection.execute("select * from runs_then.runs order by 1").fetchall() == rows(connection)
    assert connection.execute("select count(*) from wakelog.projection_builds").fetchone() == (1,)


@pytest.mark.parametrize(
    "command",
    [
        ["show", "runs", "--position", "2"],
        ["show", "runs", "--at", "now"],
        ["rebuild", "runs"],
        ["verify", "runs"],
    ],
)
def test_without_the_application_it_says_what_is_missing(
    wakelog: Wakelog, app: str, command: list[str]
) -> None:
    ended = wakelog("projection", *command)
    assert (ended.code, ended.out) == (2, "")
    assert "is folded in Python: expected the application that declares it, found none" in ended.err
    assert ended.err.endswith(
        f"name it: --app module:app, or --app file.py; see: wakelog projection {command[0]} --help\n"
    )


def test_drop(wakelog: Wakelog, app: str, connection: Connection) -> None:
    assert wakelog("projection", "drop", "runs").code == 2
    assert wakelog("projection", "drop", "runs", "--yes").code == 0
    assert connection.execute("select to_regnamespace('runs')").fetchone() == (None,)
    assert wakelog("projection", "list", "--json").json == []


@pytest.mark.parametrize("command", ["show", "rebuild", "verify", "pause", "resume", "drop"])
def test_one_that_is_not_there_is_4(wakelog: Wakelog, command: str) -> None:
    ended = wakelog("projection", command, "nothing")
    assert ended.code == 4, ended.err
    assert "wakelog projection list" in ended.err


def test_a_fold_in_python_needs_its_application(wakelog: Wakelog, app: str) -> None:
    ended = wakelog("projection", "rebuild", "runs")
    assert ended.code == 2
    assert "--app" in ended.err
