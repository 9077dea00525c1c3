"""Following the log live.

How this stays correct: an event is handed out when it has a position, and positions have no gaps, so `after`, the last
position looked at, says exactly what is still to come. Notifications only make the next look come sooner; a lost one,
or a pooler that drops them all, costs `POLL` seconds. After a lost connection it listens first and then looks.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Self

import psycopg

from wakelog.errors import BadInput, DatabaseUnreachable
from wakelog.log.event import Event
from wakelog.log.read import head, position_at, read, sequence
from wakelog.postgres.connect import connect
from wakelog.postgres.schema import require_current

CHANNEL = "wakelog_log"
"""Notified by the doorkeeper after each run of the sequencer that added something."""

POLL = 1.0
"""Seconds between two looks when nothing is heard."""

_LONGEST_PAUSE = 5.0

_log = logging.getLogger("wakelog.tail")


def tail(
    url: str,
    *,
    start: str | int | datetime = "now",
    types: str | Sequence[str] | None = None,
    follow: bool = True,
    poll: float = POLL,
) -> "Tail":
    """The events of the log from `start` on, and then each new one as it comes; for ever, unless not `follow`.

    `start` is "now" (the moment of this call), "beginning", a position (the first one wanted) or a time. Nothing is
    skipped and nothing comes twice; a lost connection is made anew. It gives events their positions itself while no
    worker does. Close it, or use it in a `with`, to let go of its connection.

    Raises `BadInput`, `DatabaseUnreachable` when the first connection fails, `SchemaMismatch`.
    """
    return Tail(url, start, types, follow, poll)


class Tail(Iterator[Event]):
    """What `tail` returns: an iterator that holds a connection."""

    def __init__(
        self,
        url: str,
        start: str | int | datetime,
        types: str | Sequence[str] | None,
        follow: bool,
        poll: float,
    ) -> None:
        self._url = url
        self._types = types
        self._follow = follow
        self._poll = poll
        self._may_sequence = True
        self._connection = _listening(url)
        try:
            require_current(self._connection)
            self._sequence()
            self._after = self._cursor(start)
        except BaseException:
            self.close()
            raise
        self._events = self._run()

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> int:
        """The last position looked at: to go on from here another time, start at the next."""
        return self._after

    def close(self) -> None:
        """Let go of the connection; the iteration ends."""
        self._follow = False
        self._connection.close()

    def _run(self) -> Iterator[Event]:
        while not self._connection.closed or self._follow:
            try:
                yield from self._look()
                if not self._follow:
                    return
                self._wait()
            except psycopg.OperationalError as lost:
                if not self._follow:
                    raise
                _log.warning("the connection was lost, connecting again: %s", lost)
                self._connection.close()
                self._connect_again()

    def _look(self) -> Iterator[Event]:
        upto = head(self._connection)
        for event in read(self._connection, after=self._after, upto=upto, types=self._types):
            assert event.position is not None
            self._after = event.position
            yield event
        self._after = max(self._after, upto)

    def _wait(self) -> None:
        heard = list(self._connection.notifies(timeout=self._poll, stop_after=1))
        if not heard:
            self._sequence()

    def _sequence(self) -> None:
        if not self._may_sequence:
            return
        try:
            if not _doors_are_kept(self._connection):
                sequence(self._connection)
        except psycopg.errors.InsufficientPrivilege:
            # A reader sees what others have sequenced.
            self._may_sequence = False

    def _cursor(self, start: str | int | datetime) -> int:
        if isinstance(start, datetime):
            return position_at(self._connection, start)
        if start == "now":
            return head(self._connection)
        if start == "beginning":
            return 0
        if isinstance(start, int):
            return max(start - 1, 0)
        raise BadInput(f'expected "now", "beginning", a position or a time, found {start!r}')

    def _connect_again(self) -> None:
        pause = 0.1
        while self._follow:
            try:
                self._connection = _listening(self._url)
                return
            except DatabaseUnreachable as still:
                _log.warning("%s; trying again in %.1f s", still, pause)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)


def _listening(url: str) -> psycopg.Connection[Any]:
    connection = connect(url, application_name="wakelog tail")
    connection.execute("listen wakelog_log")
    return connection


def _doors_are_kept(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(
        "select exists (select from pg_locks l where l.locktype = 'advisory' and l.granted"
        " and l.classid = wakelog.lock_space('doorkeeper')::oid"
        " and l.database = (select d.oid from pg_database d where d.datname = current_database()))"
    ).fetchone()
    return bool(row and row[0])
