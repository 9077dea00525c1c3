"""An event with deliver_after is in the log at once, and with no agent before its time."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.worker.asking import ack, append, claim, register, sequence, start_worker
from tests.worker.keeping import keeping
from tests.worker.waiting import one, until

from wakelog import BadInput, append_many
from wakelog import append as append_event


def later(connection: psycopg.Connection, hours: float) -> None:
    """Turn this session's clock."""
    connection.execute("select set_config('wakelog.clock_offset', %s, false)", [f"{hours} hours"])


def delayed(connection: psycopg.Connection, type_: str, hours: float, **columns: Any) -> None:
    append_event(connection, type_, deliver_after=timedelta(hours=hours), **columns)


def test_it_is_handed_out_when_its_time_has_come_and_not_before(connection: psycopg.Connection) -> None:
    register(connection, "agent")
    worker = start_worker(connection, "agent")
    delayed(connection, "late", 2)
    append(connection, "now")
    sequence(connection)
    got = claim(connection, "agent", worker)
    assert [type_ for _, _, type_ in got] == ["now"]
    ack(connection, "agent", worker, got)
    assert one(connection, "select count(*) from wakelog.log_events where type = 'late'") == 1
    later(connection, 1.9)
    assert claim(connection, "agent", worker) == []
    later(connection, 2.1)
    ((_, attempt, type_),) = claim(connection, "agent", worker)
    assert (type_, attempt) == ("late", 1)


def test_any_application_delays_with_a_column(connection: psycopg.Connection) -> None:
    register(connection, "agent")
    worker = start_worker(connection, "agent")
    connection.execute(
        "insert into wakelog.events (type, deliver_after) values ('late', now() + interval '1 hour')"
    )
    sequence(connection)
    assert claim(connection, "agent", worker) == []
    later(connection, 2)
    assert len(claim(connection, "agent", worker)) == 1


def test_bulk_takes_delayed_events_among_others(connection: psycopg.Connection) -> None:
    register(connection, "agent")
    worker = start_worker(connection, "agent")
    moment = datetime.now(UTC) + timedelta(hours=1)
    appended = append_many(
        connection,
        [{"type": "now"}, {"type": "late", "deliver_after": "1h"}, {"type": "late", "deliver_after": moment}],
    )
    assert appended == 3
    sequence(connection)
    got = claim(connection, "agent", worker)
    assert [type_ for _, _, type_ in got] == ["now"]
    ack(connection, "agent", worker, got)
    later(connection, 1.1)
    assert len(claim(connection, "agent", worker)) == 2


def test_what_is_delayed_has_not_been_tried_and_takes_no_room(connection: psycopg.Connection) -> None:
    register(connection, "agent", concurrency=1)
    worker = start_worker(connection, "agent")
    for _ in range(3):
        delayed(connection, "late", 1)
        sequence(connection)
        assert claim(connection, "agent", worker) == []
    append(connection, "now")
    sequence(connection)
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["now"]
    states = connection.execute("select state, attempt, worker from wakelog.in_flight where type = 'late'")
    assert states.fetchall() == [("waiting", 0, None)] * 3


def test_in_a_line_it_holds_its_place(connection: psycopg.Connection) -> None:
    register(connection, "agent", ordered_by="stream")
    worker = start_worker(connection, "agent")
    append(connection, "first", stream="a")
    delayed(connection, "second", 1, stream="a")
    append(connection, "third", stream="a")
    append(connection, "other", stream="b")
    sequence(connection)
    got = claim(connection, "agent", worker)
    assert sorted(type_ for _, _, type_ in got) == ["first", "other"]
    ack(connection, "agent", worker, got)
    assert claim(connection, "agent", worker) == []
    later(connection, 1.1)
    got = claim(connection, "agent", worker)
    assert [type_ for _, _, type_ in got] == ["second"]
    ack(connection, "agent", worker, got)
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["third"]


def test_its_age_counts_from_its_time(connection: psycopg.Connection) -> None:
    register(connection, "agent", expires=1800)
    worker = start_worker(connection, "agent")
    delayed(connection, "late", 2)
    append(connection, "now")
    sequence(connection)
    later(connection, 1)
    assert claim(connection, "agent", worker) == []
    later(connection, 2.1)
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["late"]
    dead = connection.execute("select type, reason from wakelog.dead_letters").fetchall()
    assert dead == [("now", "expired")]


def test_a_dead_letter_tried_again_waits_for_it_too(connection: psycopg.Connection) -> None:
    register(connection, "agent", capacity=1, overflow="drop_oldest")
    worker = start_worker(connection, "agent")
    delayed(connection, "late", 2)
    append(connection, "now")
    sequence(connection)
    ack(connection, "agent", worker, claim(connection, "agent", worker))
    assert one(connection, "select wakelog.retry_dead('agent', 1)")
    later(connection, 1)
    assert claim(connection, "agent", worker) == []
    later(connection, 2.1)
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["late"]


def test_workers_are_woken_for_it(
    connection: psycopg.Connection, database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    """Nobody looks by himself for half a minute."""
    with keeping(database, tmp_path, slow_look=30):
        start_workers("""
            import sys
            sys.modules["__main__"].POLL = 30

            @app.agent("echo", on="ping", start="beginning")
            async def echo(event, ctx):
                began = time.time()
                if event.payload["again"]:
                    ctx.emit("ping", {"again": False}, deliver_after="300ms")
                return began
        """)
        before = time.time()
        connection.execute(
            "insert into wakelog.events (type, payload, deliver_after) values ('ping', %s, now() + interval '400 ms')",
            [json.dumps({"again": True})],
        )
        answers = "select payload::float8 from wakelog.events where type = 'echo.completed' order by seq"
        until(lambda: len(connection.execute(answers).fetchall()) == 2)
    (first,), (second,) = connection.execute(answers).fetchall()
    assert first - before >= 0.39
    assert second - first >= 0.29


@pytest.mark.parametrize("wrong", ["soon", -5, "9999999999d", "2026-01-01T00:00"])
def test_what_is_no_time_is_refused(connection: psycopg.Connection, wrong: Any) -> None:
    with pytest.raises(BadInput, match="deliver_after"):
        append_event(connection, "late", deliver_after=wrong)
    assert one(connection, "select count(*) from wakelog.events") == 0
