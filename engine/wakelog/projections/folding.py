"""Folding the log into one build of a projection, a range of positions at a time.

How this stays correct
----------------------
      begin: lock the checkpoint, say "busy" --> read wakelog.new_events --> fold --> move the checkpoint --> commit
                                                                              |
                                                                              `--> an error: nothing has happened

Rows and checkpoint are one commit, so what is lost is lost together, and folded again. Two who fold the same build wait
for each other at the lock, and the second goes on where the first one ended. Until the checkpoint has moved, the
transaction is "busy", which the database does not let it commit.

A range that fails is cut in half until a single position is left: that event is to blame, and everything before it has
been committed on the way. What another try may help (a deadlock, a lost connection) blames no event and is raised.
"""

import time
import traceback
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

from wakelog.errors import WakelogError, translate
from wakelog.log.event import Event
from wakelog.projections.connection import ProjectionConnection
from wakelog.projections.definition import ProjectionDefinition

AIM = 0.2
"""Seconds that a transaction is to take: short enough to be interrupted, long enough to be fast."""
AIM_OF_A_REBUILD = 0.5
"""The same where nobody reads the tables yet."""
FIRST_WINDOW = 1000
LARGEST_WINDOW = 1_000_000
MOST_EVENTS = 10_000
"""Events that a function in Python is given at a time, which are memory."""

_NOT_THEIRS = ("wakelog/projections/", "/psycopg/")

_EVENTS: LiteralString = """
    select n.position, n.id, n.type, n.source, n.stream, n.version, n.payload, n.metadata, n.correlation_id,
           n.causation_id, n.idempotency_key, n.schema_version, n.occurred_at, n.recorded_at
    from wakelog.new_events n order by n.position limit %s
"""
_BEGIN: LiteralString = """
    select b.p_from, b.p_to, b.p_head, b.p_wanted,
           case when b.p_wanted
                then set_config('search_path', format('%%I, public, wakelog, pg_temp', b.p_schema), true) end
    from wakelog.begin_projecting(%s, %s, %s, %s) b
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction came to: from where to where, of a log that then reached to `head`."""

    after: int
    upto: int
    head: int
    seconds: float
    poison: str | None = None
    """Why the event at `upto` cannot be folded, where that is so."""
    stopped: bool = False
    """Whether it was stopped by that, rather than skipping the event."""
    narrowing: bool = False
    """Whether the range failed, and the next one is to be smaller."""

    @property
    def moved(self) -> int:
        return self.upto - self.after

    @property
    def at_end(self) -> bool:
        """Whether there was nothing more to fold."""
        return not self.narrowing and self.poison is None and (self.moved == 0 or self.upto >= self.head)


class Folding:
    """One build, or one part of it, folded over one connection. ``definition`` is None where the fold is SQL."""

    def __init__(
        self,
        connection: ProjectionConnection,
        build: int,
        definition: ProjectionDefinition | None = None,
        *,
        part: int = 0,
        aim: float = AIM,
    ) -> None:
        self.connection = connection
        self.build = build
        self.part = part
        self.definition = definition if definition is not None and definition.kind != "sql" else None
        self.window = FIRST_WINDOW
        self._aim = aim
        self._suspect: int | None = None
        """A range that ended here has failed; what is folded next ends earlier."""
        self._next_upto: int | None = None
        self._first_head: int | None = None
        self._range = (0, 0)
        self._in_fold = False
        """Whether what is going on may fail because of an event."""
        self._events = 0
        """How many a function was given the last time."""
        self._at: int | None = None
        """The position of the event that a function per event is at."""

    def advance(self, upto: int | None = None) -> Step:
        """Fold the next range in a transaction of its own, none above ``upto``; what it came to.

        Raises psycopg.Error and WakelogError for what is not the fault of an event.
        """
        return self._guarded(upto, self.window, serve=False)[0]

    def catch_up_and_serve(self) -> tuple[Step, bool]:
        """Fold what is left while what serves stands still, and take its place; whether that was to be had.

        Only up to where that one is: it may be behind the log itself, and is not to be held for longer.
        """
        return self._guarded(None, LARGEST_WINDOW, serve=True)

    def may_serve(self, step: Step) -> bool:
        """Whether, after this step, no more than another one is left to take the place of what serves.

        The first build must have come to where the log ended when it was first asked.
        """
        if step.narrowing or step.poison is not None:
            return False
        self._first_head = step.head if self._first_head is None else self._first_head
        reach = self._to_reach()
        if reach is None:
            return step.upto >= self._first_head
        return reach <= step.upto + min(self.window, MOST_EVENTS)

    def _to_reach(self) -> int | None:
        """How far it must be to take the place of what serves; None where nothing serves yet."""
        row = self.connection.ask("select wakelog.position_to_reach(%s)", [self.build])
        return row[0] if row is not None else None

    def _guarded(self, upto: int | None, window: int, *, serve: bool) -> tuple[Step, bool]:
        began = time.monotonic()
        bound = min((one for one in (upto, self._next_upto) if one is not None), default=None)
        self._range = (-1, -1)
        self._at = None
        self._events = 0
        try:
            after, reached, head, served = self._fold(window, bound, serve=serve)
        except psycopg.Error as error:
            self._undo()
            if not self._in_fold or is_transient(error, self.connection):
                raise translate(error) or error from None
            return self._blame(error, window, bound, began), False
        except Exception as error:
            self._undo()
            return self._blame(error, window, bound, began), False
        except BaseException:
            self._undo()
            raise
        seconds = time.monotonic() - began
        if reached - after >= window or seconds > self._aim:
            self.window = _next_window(self.window, seconds, self._aim)
        if self._events:
            # What is read and not folded for want of room is read again.
            self.window = max(1, min(self.window, (reached - after) * MOST_EVENTS // self._events))
        self._narrow(reached)
        return Step(after, reached, head, seconds), served

    def _fold(self, window: int, upto: int | None, *, serve: bool) -> tuple[int, int, int, bool]:
        ask = self.connection.ask
        served = False
        self._in_fold = not serve
        given: list[int | None] = [self.build, self.part, window, upto]
        if self.definition is None and not serve:
            row = ask("select * from wakelog.project_once(%s, %s, %s, %s)", given)
            assert row is not None
            return row[0], row[1], row[2], False
        ask("begin isolation level read committed")
        if serve:
            ask("select wakelog.hold_serving(%s)", [self.build])
            given[3] = self._to_reach() or 0
        self._in_fold = True
        if self.definition is None:
            row = ask("select * from wakelog.project_once(%s, %s, %s, %s)", given)
            assert row is not None
            after, reached, head = row
        else:
            row = ask(_BEGIN, given)
            assert row is not None
            after, reached, head, wanted, _ = row
            if wanted:
                self._range = (after, reached)
                reached = self._call(self.definition, after, reached)
                ask(
                    "select wakelog.finish_projecting(%s, %s, %s, %s)",
                    [self.build, self.part, after, reached],
                )
        if serve:
            self._in_fold = False
            row = ask("select wakelog.serve_build(%s)", [self.build])
            served = row == (True,)
        ask("commit")
        return after, reached, head, served

    def _call(self, definition: ProjectionDefinition, after: int, upto: int) -> int:
        """Call the function with the events of the range; how far these go."""
        with psycopg.Cursor(self.connection, row_factory=tuple_row) as cursor:
            cursor.execute(_EVENTS, [MOST_EVENTS], binary=True)
            events = [Event.from_row(row) for row in cursor.fetchall()]
        self._events = len(events)
        if len(events) == MOST_EVENTS:
            upto = events[-1].position or upto
            self._range = (after, upto)
        assert definition.fold is not None
        if definition.kind == "batch":
            if events:
                definition.fold(events, self.connection)
        else:
            fold, connection = definition.fold, self.connection
            for event in events:
                self._at = event.position
                fold(event, connection)
            self._at = None
        return upto

    def _blame(self, error: Exception, window: int, upto: int | None, began: float) -> Step:
        after, reached = self._range
        if after < 0:
            after, reached = self._would_be(window, upto)
        if self._at is not None:
            self._suspect = self._at
            self._next_upto = self._at - 1 if self._at - 1 > after else self._at
        else:
            self._suspect = reached
            self._next_upto = after + max(1, (reached - after) // 2)
        seconds = time.monotonic() - began
        if reached - after > 1:
            return Step(after, after, reached, seconds, narrowing=True)
        said = describe(error)
        try:
            row = self.connection.ask(
                "select wakelog.fail_projection(%s, %s, %s, %s)", [self.build, self.part, reached, said]
            )
        except psycopg.Error as refused:
            raise translate(refused) or refused from None
        self._narrow(reached)
        assert row is not None
        return Step(after, reached, reached, seconds, poison=said, stopped=row[0])

    def _would_be(self, window: int, upto: int | None) -> tuple[int, int]:
        row = self.connection.ask(
            """select c.position, least(s.head, b.upto, c.position + %s, %s::bigint)
               from wakelog.checkpoints c
               join wakelog.projection_builds b on b.id = c.build_id
               cross join wakelog.sequencer s
               where c.build_id = %s and c.part = %s""",
            [window, upto, self.build, self.part],
        )
        if row is None:
            raise WakelogError(f"build {self.build} of a projection is no longer there")
        return row[0], row[1]

    def _narrow(self, reached: int) -> None:
        if self._suspect is None:
            return
        if reached >= self._suspect:
            self._suspect = self._next_upto = None
        else:
            self._next_upto = reached + max(1, (self._suspect - reached) // 2)

    def _undo(self) -> None:
        if not self.connection.closed:
            try:
                self.connection.ask("rollback")
            except psycopg.Error:
                self.connection.close()


def is_transient(error: psycopg.Error, connection: psycopg.Connection[Any]) -> bool:
    """Whether another try may help: the connection, the server or other transactions are to blame, and no event."""
    state = error.sqlstate or ""
    if connection.closed or connection.broken or (isinstance(error, psycopg.OperationalError) and not state):
        return True
    # Connections; deadlocks and serialization; resources; operator intervention; a lock that could not be had.
    return state[:2] in ("08", "40", "53", "57") or state in ("55P03", "WL014")


def describe(error: BaseException) -> str:
    """An error in a line, and where in the function it was raised."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        said = f"{error.diag.message_primary}"
        said += f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    else:
        said = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if not any(ours in one.filename for ours in _NOT_THEIRS)]
    return f"{said} ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else said


def _next_window(window: int, seconds: float, aim: float) -> int:
    """As wakelog.next_window: towards the time aimed at, eight times as many at most."""
    return max(1, min(LARGEST_WINDOW, int(window * min(8.0, max(0.25, aim / max(seconds, 0.001))))))
