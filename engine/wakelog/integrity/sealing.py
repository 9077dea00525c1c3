"""Sealing what is in the log now, a piece at a time."""

from collections.abc import Iterator
from typing import Any

from psycopg import Connection
from psycopg.rows import tuple_row

from wakelog.log.connections import translated

MOST_AT_ONCE = 4096
"""Events of one seal at most: some 40 ms of work, and 128 kB of hashes."""


def seal_now(connection: Connection[Any]) -> Iterator[int]:
    """Seal everything that has its position, and yield the number of events of each seal as it is made.

    Ends early when another session is at it. Each seal is a transaction of its own where the connection commits by
    itself. Raises `LogDamaged` where events are missing.
    """
    with connection.cursor(row_factory=tuple_row) as cursor:
        while True:
            with translated():
                row = cursor.execute("select wakelog.seal(%s)", [MOST_AT_ONCE]).fetchone()
            if row is None or not row[0]:
                return
            yield row[0]
