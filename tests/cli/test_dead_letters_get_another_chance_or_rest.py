"""wakelog dead: seen, shown with each attempt, tried again, or let rest."""

import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Processes, Wakelog
from tests.worker.waiting import until

Connection = psycopg.Connection[Any]


def test_they_are_listed(wakelog: Wakelog, dead_letter: Connection) -> None:
    (letter,) = wakelog("dead", "list", "--json").json
    assert (letter["agent"], letter["position"], letter["error"]) == ("tests", 1, "boom [not bold]")
    words = wakelog("dead", "list", "--agent", "tests").out
    assert "boom [not bold]" in words
    assert "wakelog dead retry tests 1" in words


def test_none_is_said_too(wakelog: Wakelog) -> None:
    assert wakelog("dead", "list").out == "There are no dead letters.\n"
    assert wakelog("dead", "list", "--json").json == []


def test_one_is_shown_with_its_attempts(wakelog: Wakelog, dead_letter: Connection) -> None:
    words = wakelog("dead", "show", "tests", "1").out
    assert 'payload: {"branch": "main"}' in words
    assert "Traceback: boom" in words
    assert "wakelog timeline" in words
    assert wakelog("dead", "show", "tests", "1", "--json").json["failures"][0]["error"] == "boom [not bold]"


@pytest.mark.parametrize("which", [["tests", "1"], ["--agent", "tests", "--all"], ["tests", "--all"]])
def test_retry(wakelog: Wakelog, dead_letter: Connection, which: list[str]) -> None:
    assert wakelog("dead", "retry", *which, "--json").json == {"agent": "tests", "retried": [1]}
    assert wakelog("lag", "--json").json[0]["retrying"] == 1
    assert wakelog("dead", "retry", "tests", "--all").out.startswith("0 dead letters of tests")


def more_dead_letters(connection: Connection, count: int) -> int:
    """Give up all there is and as many more; how many dead letters there are then."""
    connection.execute("insert into wakelog.events (type) select 'push' from generate_series(1, %s)", [count])
    connection.execute("select wakelog.sequence()")
    worker = connection.execute("select wakelog.start_worker('a test', '{tests}', false)").fetchone()
    assert worker is not None
    connection.execute(
        "select wakelog.fail('tests', c.position, %s, c.attempt, 'boom', null, null, true) "
        "from wakelog.claim('tests', %s, 100) c",
        [worker[0], worker[0]],
    )
    row = connection.execute("select count(*) from wakelog.dead").fetchone()
    assert row is not None
    return row[0]


def test_retries_are_spread(wakelog: Wakelog, dead_letter: Connection) -> None:
    dead = more_dead_letters(dead_letter, 3)
    before = time.monotonic()
    retried = wakelog("dead", "retry", "tests", "--all", "--rate", "10/s", "--json").json["retried"]
    assert len(retried) == dead
    assert retried[0] == 1
    assert time.monotonic() - before >= 0.1 * (dead - 1)
    assert wakelog("dead", "retry", "tests", "--all", "--rate", "often").code == 2


def test_an_interrupted_retry_goes_on_with_the_rest(
    wakelog: Wakelog, dead_letter: Connection, database: str, processes: Processes, tmp_path: Path
) -> None:
    dead = more_dead_letters(dead_letter, 3)
    retrying = processes.start(
        "dead", "retry", "tests", "--all", "--rate", "1/h", "--database", database, folder=tmp_path
    )
    until(lambda: dead_letter.execute("select count(*) from wakelog.dead").fetchone() == (dead - 1,))
    retrying.send_signal(signal.SIGINT)
    _, said = retrying.communicate(timeout=20)
    assert retrying.returncode == 130
    assert f"interrupted after 1 dead letter of {dead}; the same command goes on with the rest" in said
    assert len(wakelog("dead", "retry", "tests", "--all", "--json").json["retried"]) == dead - 1


def test_a_rate_is_for_many(wakelog: Wakelog, dead_letter: Connection) -> None:
    ended = wakelog("dead", "retry", "tests", "1", "--rate", "1/s")
    assert ended.code == 2
    assert "expected --rate with --all" in ended.err


def test_discard(wakelog: Wakelog, dead_letter: Connection) -> None:
    assert wakelog("dead", "discard", "tests", "1", "--yes").out.startswith(
        "1 dead letter of tests discarded"
    )
    assert dead_letter.execute("select outcome from wakelog.history").fetchall() == [("discarded",)]


@pytest.mark.parametrize(
    "command", [["show", "tests", "2"], ["retry", "tests", "2"], ["discard", "tests", "2", "--yes"]]
)
def test_one_that_is_not_there_is_4(wakelog: Wakelog, dead_letter: Connection, command: list[str]) -> None:
    ended = wakelog("dead", *command)
    assert ended.code == 4
    assert ended.err.rstrip().endswith("see: wakelog dead list --agent tests")


@pytest.mark.parametrize(
    "which", [[], ["tests"], ["tests", "1", "--all"], ["tests", "0"], ["tests", "x"], ["--all"]]
)
def test_which_ones_must_be_clear(wakelog: Wakelog, which: list[str]) -> None:
    ended = wakelog("dead", "retry", *which)
    assert ended.code == 2
    assert "wakelog dead retry --help" in ended.err
