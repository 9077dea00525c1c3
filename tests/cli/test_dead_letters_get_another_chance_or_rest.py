"""wakelog dead: seen, shown with each attempt, tried again, or let rest."""

from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

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
