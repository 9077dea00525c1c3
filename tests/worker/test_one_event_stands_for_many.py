"""Deduplication: of the events of one key only those are worked on that the mode says, whoever claims and when."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one, until

from wakelog import BadInput, Dedupe, Wakelog

AT = "select set_config('wakelog.clock_offset', %s, false)"


class Shop:
    """One agent and its worker; events come at minutes on the clock, which moves as it is told."""

    def __init__(self, connection: psycopg.Connection, mode: str, window: float | None = None) -> None:
        self.connection = connection
        rule = {"by": "payload.id", "mode": mode, "window": window}
        register(connection, "agent", dedupe=rule)
        self.worker = start_worker(connection, "agent")
        self.number = 0

    def at(self, minutes: float) -> None:
        self.connection.execute(AT, [f"{minutes} minutes"])

    def say(self, key: str | None, minutes: float) -> int:
        """Append an event of a key at a minute; its number."""
        self.number += 1
        payload: dict[str, Any] = {"n": self.number} if key is None else {"n": self.number, "id": key}
        # What is in the log has its time from the server's clock: it is put there for the test.
        append(self.connection, "thing", payload=payload)
        sequence(self.connection)
        self.connection.execute(
            "update wakelog.log set sequenced_at = now() + %s where position = %s",
            [timedelta(minutes=minutes), self.number],
        )
        self.at(minutes)
        return self.number

    def claim(self, limit: int = 100) -> list[tuple[int, int, str]]:
        return claim(self.connection, "agent", self.worker, limit, lease=36000)

    def claimed(self, limit: int = 100) -> list[int]:
        return [position for position, _, _ in self.claim(limit)]

    def ack(self, *positions: int) -> None:
        ack(self.connection, "agent", self.worker, [(position, 1, "") for position in positions])

    def left_out(self) -> list[int]:
        return [
            position
            for (position,) in self.connection.execute(
                "select position from wakelog.history where outcome = 'deduplicated' order by position"
            )
        ]


def test_simple_leaves_out_what_comes_while_one_is_unfinished(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "simple")
    first, _, other, none, none_again = (shop.say(key, 0) for key in ("a", "a", "b", None, None))
    assert shop.claimed() == [first, other, none, none_again]
    shop.say("a", 1)
    assert shop.claimed() == []
    fail(connection, "agent", shop.worker, (first, 1, ""))  # it is tried again in an hour
    shop.say("a", 2)
    assert shop.claimed() == []
    shop.at(65)
    assert [(p, attempt) for p, attempt, _ in shop.claim()] == [(first, 2)]
    ack(connection, "agent", shop.worker, [(first, 2, "")])
    after = shop.say("a", 66)
    assert shop.claimed() == [after]
    assert shop.left_out() == [2, 6, 7]


def test_throttle_lets_one_through_in_each_window(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "throttle", 300)
    first = shop.say("a", 0)
    assert shop.claimed() == [first]
    shop.ack(first)
    shop.say("a", 4.9)
    assert shop.claimed() == []  # although it has been finished
    other, after = shop.say("b", 4.95), shop.say("a", 5.01)
    assert shop.claimed() == [other, after]
    shop.say("a", 10)
    assert shop.claimed() == []
    assert shop.left_out() == [2, 5]


def test_what_counts_is_when_they_came_and_not_when_they_are_claimed(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "throttle", 300)
    for minute in range(12):
        shop.say("a", minute)
    shop.at(600)
    assert shop.claimed() == [1, 6, 11]


def test_debounce_waits_until_none_has_come_for_the_window(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "debounce", 60)
    for minute in (0, 0.5, 1.2):
        last = shop.say("a", minute)
        assert shop.claimed() == []
    shop.at(2.1)
    assert shop.claimed() == []
    shop.at(2.3)
    assert shop.claimed() == [last]
    newer = shop.say("a", 2.4)
    assert shop.claimed() == []  # the last one is being worked on; this one waits its time
    shop.at(3.5)
    assert shop.claimed() == [newer]
    assert shop.left_out() == [1, 2]


def test_debounce_after_a_long_silence_of_the_workers(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "debounce", 60)
    for minute in (0, 0.5, 10, 10.9):
        shop.say("a", minute)
    shop.at(600)
    assert shop.claimed() == []
    assert shop.claimed() == [2, 4]


def test_debounce_waits_for_a_delayed_event_too(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "debounce", 60)
    connection.execute(
        """insert into wakelog.events (type, payload, deliver_after)
           values ('thing', '{"id": "a"}', now() + interval '1 hour')"""
    )
    sequence(connection)
    assert shop.claimed() == []
    shop.at(5)
    assert shop.claimed() == []
    shop.at(61)
    assert shop.claimed() == [1]


def test_a_rewound_agent_begins_its_windows_anew(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "throttle", 300)
    for minute in (0, 2, 20):
        shop.say("a", minute)
    assert shop.claimed() == [1, 3]
    shop.ack(1, 3)
    connection.execute("select wakelog.rewind_agent('agent', 1)")
    assert shop.claimed() == [1, 3]


def test_keep_last_works_on_one_and_then_on_the_last(connection: psycopg.Connection) -> None:
    shop = Shop(connection, "keep_last")
    first = shop.say("a", 0)
    assert shop.claimed() == [first]
    for minute in (1, 2, 3):
        last = shop.say("a", minute)
        assert shop.claimed() == []
    shop.ack(first)
    assert shop.claimed() == [last]
    shop.ack(last)
    assert shop.claimed() == []
    assert shop.left_out() == [2, 3]


@pytest.mark.parametrize("mode", ["simple", "throttle", "debounce", "keep_last"])
def test_the_size_of_a_claim_changes_nothing(connection: psycopg.Connection, mode: str) -> None:
    shop = Shop(connection, mode, 300 if mode in ("throttle", "debounce") else None)
    for n in range(60):
        shop.say("abc"[n % 3], n)
    shop.at(6000)
    done: list[int] = []
    for _ in range(200):
        got = shop.claimed(1)
        done += got
        shop.ack(*got)
    if mode == "throttle":
        # Each key comes every third minute: 0, 6, 12, ...
        assert sorted(done) == [n + 1 for n in range(60) if n % 6 < 3]
    elif mode == "debounce":
        assert sorted(done) == [58, 59, 60]
    else:
        assert {1, 2, 3} <= set(done)
    assert sorted(done + shop.left_out()) == list(range(1, 61))
    assert one(connection, "select count(*) from wakelog.deliveries") == 0


def test_many_workers_let_one_of_each_through(
    connection: psycopg.Connection, start_workers: Callable[..., Any]
) -> None:
    start_workers(
        """
        @app.agent("agent", on="thing", start="beginning", dedupe=Dedupe("payload.id", "throttle", "5m"))
        async def work(event, ctx):
            return event.payload["id"]
        """.replace("Dedupe(", "__import__('wakelog').Dedupe("),
        processes=3,
    )
    connection.execute(
        "insert into wakelog.events (type, payload) "
        "select 'thing', jsonb_build_object('id', n % 50) from generate_series(1, 2000) n"
    )
    until(lambda: one(connection, "select count(*) >= 50 from wakelog.events where type = 'agent.completed'"))
    until(lambda: one(connection, "select behind + in_flight + retrying = 0 from wakelog.lag"))
    results = connection.execute("select payload from wakelog.events where type = 'agent.completed'")
    assert sorted(row[0] for row in results) == list(range(50))
    assert one(connection, "select count(*) from wakelog.history where outcome = 'deduplicated'") == 1950


@pytest.mark.parametrize(
    ("dedupe", "sentence"),
    [
        (Dedupe("colour"), "payload.<path>, found 'colour'"),
        (Dedupe("stream", "throttle"), "a window above 0 s for dedupe mode throttle"),
        (Dedupe("stream", "simple", "5m"), "no window for dedupe mode simple"),
        (Dedupe("stream", "often"), "found 'often'"),  # pyright: ignore
        ("stream", "a Dedupe, or None"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused(dedupe: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Wakelog("test").agent("agent", on="#", dedupe=dedupe)(print)


def test_order_and_deduplication_are_not_mixed(connection: psycopg.Connection) -> None:
    with pytest.raises(BadInput, match="not both"):
        Wakelog("test").agent("agent", on="#", ordered_by="stream", dedupe=Dedupe("stream"))(print)
    with pytest.raises(psycopg.Error, match="expected one of both") as refused:
        connection.execute(
            "select wakelog.register_agent('agent', %s)",
            [Jsonb({"types": ["#"], "ordered_by": "stream", "dedupe": {"by": "stream", "mode": "simple"}})],
        )
    assert refused.value.sqlstate == "WL006"
