"""Deliveries a second: the log is filled while agents are paused, then they are let go.

Counted are the deliveries in the history; the time begins with the first claim, by the server's clock, and ends when
nothing is left in anybody's hands. Waking is not in it (`latency` is about that); every claim and acknowledgement is.
"""

import time
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from wakelog.errors import WakelogError

_FILL: LiteralString = """
    insert into wakelog.events (type, payload)
    select case when %(spread)s > 1 then %(type)s || (n %% %(spread)s) else %(type)s end, jsonb_build_object('n', n)
    from generate_series(1, %(count)s::bigint) n
"""
_BUSY: LiteralString = """
    select exists (select from wakelog.deliveries) or exists (select from wakelog.ready_agents())
"""
EVERY = 0.01
"""Seconds between two looks at whether it is done."""
LAST_MINUTE = 30.0
"""Seconds in which what has been claimed must be finished."""


def fill(
    connection: psycopg.Connection[Any], type_: str, count: int, *, spread: int = 1, at_once: int = 100_000
) -> int:
    """Append events and give them their positions; the position before the first of them.

    With ``spread`` they are of so many types, in turns, whose names end with a number.
    """
    before = head(connection)
    for start in range(0, count, at_once):
        connection.execute(_FILL, {"type": type_, "spread": spread, "count": min(at_once, count - start)})
        while _value(connection, "select wakelog.sequence()") is None:
            time.sleep(EVERY)  # the doorkeeper is at it
    return before


def head(connection: psycopg.Connection[Any]) -> int:
    """The last position of the log, or 0."""
    return _value(connection, "select coalesce(max(position), 0) from wakelog.log")


def pause(connection: psycopg.Connection[Any]) -> None:
    """Let no agent be given anything more, and wait until what they have is finished.

    Raises `WakelogError` when it is not within half a minute, as after the death of a worker.
    """
    given_up = time.monotonic() + LAST_MINUTE
    connection.execute("select wakelog.pause_agent(name) from wakelog.agents")
    while _value(connection, "select exists (select from wakelog.deliveries)"):
        if time.monotonic() > given_up:
            raise WakelogError(
                f"expected what workers have in hand to be finished within {LAST_MINUTE:g} s, found some left",
                hint="Is the server busy with something else? See: wakelog doctor",
            )
        time.sleep(EVERY)


def drain(
    connection: psycopg.Connection[Any],
    after: int,
    *,
    upto: int | None = None,
    seconds: float | None = None,
    patience: float = 600.0,
) -> float:
    """Let the agents go, and pause them again when they are done with everything; the deliveries a second.

    They are stopped sooner once ``upto`` has been finished, or ``seconds`` after the first claim. ``after`` is the
    position before the first event to be delivered. Raises `WakelogError` when it takes longer than ``patience``.
    """
    last = head(connection) if upto is None else upto
    given_up = time.monotonic() + patience
    connection.execute("select wakelog.resume_agent(name) from wakelog.agents")
    while not (done := _is_done(connection, last, all_of_them=upto is None)):
        if seconds is not None and _seconds_since(connection, _first(connection, after)) >= seconds:
            break
        if time.monotonic() > given_up:
            raise WakelogError(
                f"expected all deliveries to be finished within {patience:g} s, found some left",
                hint="Is the server busy with something else? See: wakelog doctor",
            )
        time.sleep(EVERY)
    ended = _value(connection, "select clock_timestamp()") if done else None
    pause(connection)
    ended = ended or _value(connection, "select clock_timestamp()")  # all that was claimed is in the count
    count: int = _value(connection, "select count(*) from wakelog.history where position > %s", after)
    began = _first(connection, after)
    return count / (ended - began).total_seconds() if began is not None else 0.0


def _is_done(connection: psycopg.Connection[Any], last: int, *, all_of_them: bool) -> bool:
    # The cheap question first; the other only near the end.
    finished = _value(connection, "select exists (select from wakelog.history where position = %s)", last)
    return finished and not (all_of_them and _value(connection, _BUSY))


def _seconds_since(connection: psycopg.Connection[Any], moment: datetime | None) -> float:
    if moment is None:
        return 0.0
    return _value(connection, "select extract(epoch from clock_timestamp() - %s)::float8", moment)


def _first(connection: psycopg.Connection[Any], after: int) -> datetime | None:
    return _value(connection, "select min(started_at) from wakelog.history where position > %s", after)


def _value(connection: psycopg.Connection[Any], query: LiteralString, *parameters: Any) -> Any:
    row = connection.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0]
