"""From just before an insert to the start of its handler, on a system with nothing else to do."""

import time
from typing import Any

import psycopg

from wakelog.errors import WakelogError
from wakelog.measuring.deliveries import head

PAUSE = 0.02
"""Seconds between two events: long enough for everybody to have gone back to sleep."""
PATIENCE = 30.0


def insert_to_handler(
    connection: psycopg.Connection[Any], *, count: int, seconds: float = 60.0
) -> list[float]:
    """The seconds each of so many events took, or of as many as fit into the time, but of ten at least.

    A worker must run the agent "ping" on this machine (`agents.ping`), whose clock both ends are read from. Raises
    `WakelogError` when an event is not answered within half a minute.
    """
    before = head(connection)
    sent = 0
    until = time.monotonic() + seconds
    while sent < count and (sent < min(10, count) or time.monotonic() < until):
        time.sleep(PAUSE)
        connection.execute(
            "insert into wakelog.events (type, payload) values "
            "('bench.ping', jsonb_build_object('at', %s::float8))",
            [time.time()],
        )
        sent += 1
    return _answers(connection, before, sent)


def _answers(connection: psycopg.Connection[Any], before: int, sent: int) -> list[float]:
    given_up = time.monotonic() + PATIENCE
    while True:
        rows = connection.execute(
            "select (payload ->> 'seconds')::float8 from wakelog.log_events "
            "where position > %s and type = 'ping.completed'",
            [before],
        ).fetchall()
        if len(rows) >= sent:
            return [seconds for (seconds,) in rows]
        if time.monotonic() > given_up:
            raise WakelogError(
                f"expected {sent} events to be answered, found {len(rows)} answers after {PATIENCE:g} s",
                hint="See: wakelog doctor",
            )
        time.sleep(PAUSE)
