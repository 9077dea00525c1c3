"""wakelog agents, lag and workers: how they stand; pausing, rewinding, removing, and nothing of it unasked."""

from typing import Any

import click
import psycopg
import pytest
from tests.cli.command import Wakelog
from tests.worker.waiting import one, until

Connection = psycopg.Connection[Any]


@pytest.mark.parametrize("command", [["agents", "list"], ["lag"]])
def test_the_list_says_how_each_stands(wakelog: Wakelog, dead_letter: Connection, command: list[str]) -> None:
    (agent,) = wakelog(*command, "--json").json
    assert (agent["agent"], agent["cursor"], agent["behind"], agent["dead"]) == ("tests", 1, 1, 1)
    heading, row = wakelog(*command).out.splitlines()
    assert heading.split()[:3] == ["agent", "position", "behind"]
    assert row.split()[:3] == ["tests", "1", "1"]


def test_an_empty_list_says_what_to_do(wakelog: Wakelog) -> None:
    assert "wakelog worker" in wakelog("lag").out
    assert "wakelog worker" in wakelog("workers").out
    assert wakelog("lag", "--json").json == []


def test_one_is_shown_with_what_it_has_in_hand(wakelog: Wakelog, dead_letter: Connection) -> None:
    worker = dead_letter.execute("select wakelog.start_worker('w', array['tests'])").fetchone()
    dead_letter.execute("select wakelog.claim('tests', %s, 1)", worker)
    shown = wakelog("agents", "show", "tests", "--json").json
    assert shown["types"] == ["push"]
    assert shown["timeout"] == 300
    assert [d["position"] for d in shown["deliveries"]] == [2]
    words = wakelog("agents", "show", "tests").out
    assert "push" in words
    assert "running" in words
    assert "wakelog dead list --agent tests" in words


def test_workers_are_listed_alive_and_dead(wakelog: Wakelog, connection: Connection, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("select wakelog.start_worker('gone', array['tests'])")
    # A server's process ends after its client, and only then is the worker dead.
    until(lambda: one(connection, "select bool_and(not alive) from wakelog.workers"))
    connection.execute("select wakelog.start_worker('here', array['tests'])")
    assert [(w["name"], w["alive"]) for w in wakelog("workers", "--json").json] == [
        ("gone", False),
        ("here", True),
    ]
    assert [line.split()[1:3] for line in wakelog("workers").out.splitlines()[1:]] == [
        ["gone", "dead"],
        ["here", "awake"],
    ]


def test_pause_and_resume(wakelog: Wakelog, dead_letter: Connection) -> None:
    assert wakelog("agents", "pause", "tests", "--json").json["paused_at"]
    assert "paused since" in wakelog("lag").out
    assert "wakelog agents resume tests" in wakelog("agents", "pause", "tests").out
    assert wakelog("agents", "resume", "tests").out.startswith("tests goes on")
    assert wakelog("agents", "resume", "tests", "--json").json == {"agent": "tests", "paused_at": None}
    assert wakelog("lag", "--json").json[0]["paused_at"] is None


@pytest.mark.parametrize(
    ("place", "position", "back"),
    [("beginning", 1, 1), ("1", 1, 1), ("1h", 1, 1), ("2", 2, 0), ("now", 5, -3), ("5", 5, -3)],
)
def test_rewind(wakelog: Wakelog, dead_letter: Connection, place: str, position: int, back: int) -> None:
    rewound = wakelog("agents", "rewind", "tests", "--to", place, "--yes", "--json").json
    assert rewound == {"agent": "tests", "position": position, "positions_back": back}
    assert dead_letter.execute("select position from wakelog.cursors").fetchone() == (position - 1,)


@pytest.mark.parametrize("place", ["0", "6", "2030-01-01T00:00Z1", "never"])
def test_a_place_outside_the_log_is_refused(wakelog: Wakelog, dead_letter: Connection, place: str) -> None:
    ended = wakelog("agents", "rewind", "tests", "--to", place, "--yes")
    assert ended.code == 2
    assert "wakelog agents" in ended.err


def test_remove(wakelog: Wakelog, dead_letter: Connection) -> None:
    assert wakelog("agents", "remove", "tests", "--yes").out.startswith("tests is forgotten")
    assert wakelog("lag", "--json").json == []


@pytest.mark.parametrize(
    "command",
    [
        ["agents", "remove", "tests"],
        ["agents", "rewind", "tests", "--to", "1"],
        ["dead", "discard", "tests", "1"],
        ["dead", "discard", "--agent", "tests", "--all"],
        ["db", "drop-history", "--before", "30d"],
    ],
)
class TestNothingIsDestroyedUnasked:
    def test_without_a_terminal_it_refuses_and_says_what_to_type(
        self, wakelog: Wakelog, dead_letter: Connection, command: list[str]
    ) -> None:
        ended = wakelog(*command)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.rstrip().endswith(f"if you are sure, type: wakelog {' '.join(command)} --yes")
        self._unchanged(dead_letter)

    def test_no_means_no(
        self,
        wakelog: Wakelog,
        dead_letter: Connection,
        command: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
        monkeypatch.setattr("wakelog_cli.options._somebody_is_there", lambda: True)
        ended = wakelog(*command)
        assert ended.code == 1
        assert "nothing was changed" in ended.err
        self._unchanged(dead_letter)

    def _unchanged(self, connection: Connection) -> None:
        assert connection.execute("select agent, position from wakelog.dead_letters").fetchall() == [
            ("tests", 1)
        ]
        assert connection.execute("select position from wakelog.cursors").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "command",
    [
        ["agents", "show", "nobody"],
        ["agents", "pause", "nobody"],
        ["agents", "resume", "nobody"],
        ["agents", "rewind", "nobody", "--to", "beginning", "--yes"],
        ["agents", "remove", "nobody", "--yes"],
        ["dead", "list", "--agent", "nobody"],
        ["dead", "show", "nobody", "1"],
        ["dead", "retry", "nobody", "1"],
        ["dead", "discard", "--agent", "nobody", "--all", "--yes"],
    ],
)
def test_an_unknown_agent_is_4(wakelog: Wakelog, command: list[str]) -> None:
    ended = wakelog(*command)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == 'wakelog: there is no agent "nobody"; see: wakelog agents list\n'
