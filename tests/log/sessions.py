"""Database sessions for tests that need several at once, and ways to wait for what they do."""

import time
from collections.abc import Callable
from typing import Any, LiteralString
from uuid import UUID

import psycopg

PATIENCE = 20.0


class Sessions:
    """Opens connections to one database, and closes them all at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: list[psycopg.Connection[Any]] = []

    def __call__(self, *, autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.url, autocommit=autocommit, **options)
        self._open.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def until(true: Callable[[], Any], what: str) -> Any:
    """Look until something is true, and return it; fail when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}"
        time.sleep(0.005)
    return found


def waiting_for_a_lock(observer: psycopg.Connection[Any], number: int = 1) -> None:
    """Wait until so many sessions of this database wait for a lock."""
    until(
        lambda: (
            value(
                observer,
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()",
            )
            >= number
        ),
        f"{number} session(s) waiting for a lock",
    )


def value(connection: psycopg.Connection[Any], query: LiteralString, parameters: Any = None) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row and row[0]


def insert(
    connection: psycopg.Connection[Any], type: str = "thing.happened", stream: str | None = None
) -> UUID:
    """The whole producer API, in whatever transaction the connection is in."""
    return value(
        connection, "insert into wakelog.events (type, stream) values (%s, %s) returning id", [type, stream]
    )


def sequence(connection: psycopg.Connection[Any]) -> int | None:
    return value(connection, "select wakelog.sequence()")


def log_ids(connection: psycopg.Connection[Any]) -> list[UUID]:
    """The ids of the log in its order, once it is seen to be gapless and at its head."""
    rows = connection.execute("select position, id from wakelog.log_events order by position").fetchall()
    assert [position for position, _ in rows] == list(range(1, len(rows) + 1))
    assert value(connection, "select head from wakelog.sequencer") == len(rows)
    return [id for _, id in rows]
