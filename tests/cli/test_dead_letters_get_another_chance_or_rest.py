"""wakelog dead: seen, shown with each attempt, tried again, or let rest."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Processes, Wakelog

from wakelog_cli.interruption import Interruption

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


@pytest.fixture
def three_dead_letters(dead_letter: Connection) -> Connection:
    """The agent "tests" has given up position 1, then 5, then 2."""
    dead_letter.execute("insert into wakelog.events (type) values ('push')")
    dead_letter.execute("select wakelog.sequence()")
    row = dead_letter.execute("select wakelog.start_worker('another', array['tests'])").fetchone()
    assert row is not None
    dead_letter.execute("select wakelog.claim('tests', %s, 2)", row)
    for position in (5, 2):
        dead_letter.execute(
            "select wakelog.fail('tests', %s, %s, 1, 'boom', null, null, true)", [position, *row]
        )
    dead_letter.execute("select wakelog.stop_worker(%s)", row)
    return dead_letter


def test_all_are_retried_oldest_first(wakelog: Wakelog, three_dead_letters: Connection) -> None:
    assert wakelog("dead", "retry", "tests", "--all", "--json").json == {
        "agent": "tests",
        "retried": [1, 5, 2],
    }


def test_a_rate_spreads_them(wakelog: Wakelog, three_dead_letters: Connection) -> None:
    assert wakelog("dead", "retry", "tests", "--all", "--rate", "10/2s").code == 0
    moments = three_dead_letters.execute(
        "select extract(epoch from available_at)::float8 from wakelog.deliveries order by available_at"
    ).fetchall()
    first, second, third = (moment for (moment,) in moments)
    assert min(second - first, third - second) > 0.199


def test_what_dies_after_the_command_began_is_left_alone(
    wakelog: Wakelog, three_dead_letters: Connection
) -> None:
    three_dead_letters.execute("update wakelog.dead set died_at = now() + interval '1h' where position = 5")
    assert wakelog("dead", "retry", "tests", "--all", "--json").json["retried"] == [1, 2]
    assert [d["position"] for d in wakelog("dead", "list", "--json").json] == [5]


def test_an_interrupted_retry_says_how_far_it_came_and_goes_on(
    wakelog: Wakelog,
    three_dead_letters: Connection,
    database: str,
    processes: Processes,
    eventually: Callable[[Callable[[], bool], str], None],
    tmp_path: Path,
) -> None:
    command = ["dead", "retry", "tests", "--all"]
    slow = processes.start(*command, "--rate", "1/h", folder=tmp_path, DATABASE_URL=database)

    def dead() -> list[tuple[int]]:
        return three_dead_letters.execute("select position from wakelog.dead order by position").fetchall()

    eventually(lambda: dead() == [(2,), (5,)], "the first retry")
    slow.send_signal(signal.SIGINT)
    out, err = slow.communicate(timeout=20)
    assert slow.returncode == 130
    assert out.startswith("1 dead letter of tests to be tried again")
    assert err.rstrip().endswith("the same command goes on: wakelog dead retry tests --all --rate 1/h")
    assert wakelog(*command, "--json").json["retried"] == [5, 2]


@pytest.mark.parametrize(("asked", "done"), [(1, ["this one"]), (2, [])])
def test_an_interruption_waits_for_what_is_half_done_unless_asked_twice(asked: int, done: list[str]) -> None:
    seen: list[str] = []

    def work() -> None:
        with Interruption() as interruption:
            with interruption.put_off():
                for _ in range(asked):
                    signal.raise_signal(signal.SIGINT)
                seen.append("this one")
            seen.append("the next one")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == done


@pytest.mark.parametrize(
    "given", [["--all", "--rate", "fast"], ["--all", "--rate", "0/s"], ["1", "--rate", "1/s"]]
)
def test_a_rate_that_is_none_is_refused(wakelog: Wakelog, given: list[str]) -> None:
    ended = wakelog("dead", "retry", "tests", *given)
    assert ended.code == 2
    assert "expected" in ended.err


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
