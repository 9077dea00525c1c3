"""The demo, as anybody runs it: a worker is killed in the middle, each push still gets exactly one status, and the
past can be looked at, begun anew and verified."""

import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.demo.running import left_behind, start_demo

from wakelog.postgres.embedded import EmbeddedPostgres
from wakelog_cli.main import run


def _one(connection: "psycopg.Connection[Any]", query: Any, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def test_a_killed_worker_costs_nothing_but_a_second(
    tmp_path: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = start_demo(tmp_path, "--commits", "1", "--json", database=empty_database)
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

    past = result["past"]
    _the_past_came_out_right(past, push["push"])
    monkeypatch.setenv("DATABASE_URL", empty_database)
    _each_command_can_be_typed(past, push["push"], capsys)

    with psycopg.connect(empty_database) as connection:
        # The push, its second time under the rules with a typo, and the fork of that.
        first, again, fork = push["push"], past["fork"]["workflow"], past["fork"]["fork"]
        statuses = "select count(*) from wakelog.events where type = 'ci.status' and correlation_id = %s"
        assert [_one(connection, statuses, one) for one in (first, again, fork)] == [1, 1, 1]
        assert _one(connection, "select count(*) from wakelog.events where type = 'ci.status'") == 3
        assert _one(connection, "select count(*) from ci.results where workflow = %s", first) == 3
        answers = """select count(*) from wakelog.events e
                     where type like '%%.completed' and not exists (select from wakelog.copies c where c.seq = e.seq)"""
        assert _one(connection, answers) == 6
        assert _one(connection, "select count(*) from wakelog.in_flight") == 0
        assert _one(connection, "select count(*) from wakelog.dead_letters") == 0
        assert _one(connection, "select sum(stalled) from wakelog.history where stalled > 0") >= 1
        assert _one(connection, "select count(*) from wakelog.workers where alive") == 0
    assert list(tmp_path.iterdir()) == []


def _the_past_came_out_right(past: dict[str, Any], push: str) -> None:
    projection, (long_ago, middle), fork, seals = (past[n] for n in ("projection", "as_of", "fork", "seals"))
    assert (projection["replaced"], projection["same_before_and_after"], projection["verified_rows"]) == (
        True,
        True,
        1,
    )
    assert set(projection["runs"][push]["checks"]) == {"tests", "lint", "security"}
    assert projection["runs"][push]["state"] == "success"
    assert projection["fork_in_it"]["state"] == "success"
    assert (long_ago["position"], long_ago["runs"]) == (0, {})
    assert middle["runs"][push]["state"] is None
    assert "security" not in middle["runs"][push]["checks"]
    assert (fork["before"]["state"], fork["after"]["state"]) == ("failure", "success")
    assert (fork["statuses"], fork["done_anew"], fork["untouched"]) == (1, ["status"], True)
    assert (seals["events"], seals["to"]) == (seals["to"], fork["last_position"])
    assert seals["seals"] >= 1


def _each_command_can_be_typed(past: dict[str, Any], push: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the demo shows, typed afterwards: it shows the same. (Appending and forking again would do it again.)"""
    said: dict[str, Any] = {}
    for line in past["commands"]:
        _, *arguments = shlex.split(line)
        if "append" not in arguments and "fork" not in arguments:
            assert run([*arguments, "--json"]) == 0, line
            said[line] = json.loads(capsys.readouterr().out)
    position, fork = past["as_of"][1]["position"], past["fork"]
    assert said["wakelog projection rebuild ci_runs"]["served"] is True
    assert said["wakelog projection verify ci_runs"]["same"] is True
    [then] = said[f"wakelog projection show ci_runs --position {position}"]["tables"]["runs"]
    assert {name: then[name] for name in ("commit", "checks", "state")} == past["as_of"][1]["runs"][push]
    assert said["wakelog projection show ci_runs --at 2m"]["tables"] == {"runs": []}
    assert said[f"wakelog workflow show {fork['fork']}"]["forked_from"]["parent"] == fork["workflow"]
    [forked_as] = said[f"wakelog workflow show {fork['workflow']}"]["forks"]
    assert forked_as["correlation_id"] == fork["fork"]
    assert said["wakelog verify"]["events"] == past["seals"]["events"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_ctrl_c_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--commits", "1")
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
    assert left_behind(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".wakelog"]
    assert not EmbeddedPostgres(tmp_path / ".wakelog").running


def test_other_workers_are_not_given_its_pushes(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select wakelog.start_worker('somebody', array['tests'], true)")
        demo = start_demo(tmp_path, database=database)
        _, err = demo.communicate(timeout=60)
        assert demo.returncode == 5, err
        assert "somebody" in err
        assert _one(connection, "select count(*) from wakelog.events") == 0


def test_somebody_elses_projection_is_left_alone(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema ci_runs")
        demo = start_demo(tmp_path, database=database)
        _, err = demo.communicate(timeout=60)
        assert demo.returncode == 5, err
        assert '"ci_runs" is there already' in err
        assert _one(connection, "select count(*) from wakelog.events") == 0


def test_a_repository_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--repo", str(tmp_path / "nowhere"))
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert len(err.strip().splitlines()) == 1
    assert "found no such folder" in err


def test_git_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    demo = start_demo(tmp_path)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "expected git" in err
