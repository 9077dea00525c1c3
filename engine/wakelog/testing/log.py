"""A log of a test's own: append, run the agents until nothing is left to do, look at what came of it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from wakelog.agents.app import Wakelog
from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput
from wakelog.log.append import append
from wakelog.log.event import Event
from wakelog.log.read import read, sequence
from wakelog.postgres.connect import connect
from wakelog.testing.until_idle import PAUSE, until_idle


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery that was given up: `reason` is max_attempts, do_not_retry or stalled, `error` the last one."""

    agent: str
    position: int
    type: str
    payload: Any
    reason: str
    error: str | None
    attempts: int


class LogUnderTest:
    """A log that one test has to itself; the fixture `wakelog_log` makes one.

    `connection` is psycopg's, in autocommit: each statement is a transaction of its own. `url` is for
    whatever else wants to connect.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection: psycopg.Connection[Any] = connect(url, application_name="wakelog test")
        self._turned = 0.0

    def append(
        self,
        type: str,  # noqa: A002 - the field's name
        payload: Any = None,
        **values: Any,
    ) -> Event:
        """Append an event and commit it; `values` and errors are those of `wakelog.append`."""
        return append(self.connection, type, payload, **values)

    def run_until_idle(self, app: Wakelog, timeout: Duration = 30) -> None:
        """Run the app's agents, in this process, until there is nothing left for them to do.

        Nothing left means: every committed event has its position, every agent has had what it wants, no handler
        runs, no retry is due. A retry that waits for a later time is not waited for: `turn_clock` makes it due.
        Handlers run as they do in a worker: with their time limits, steps, transactions and retries. An agent
        that starts at "now" begins with the test, not with the first run. Then the app's projections are folded.

        Raises:
            NotIdle: a projection stopped; or there was still work after `timeout`: it says what, and the handlers
                were ended.
            BadInput: an agent's options cannot be used; or an event loop runs here, as in async tests
                (await `run_until_idle_async`).
        """
        __tracebackhide__ = True
        if _in_event_loop():
            raise BadInput(
                "expected no running event loop in run_until_idle, found one",
                hint="In an async test: await log.run_until_idle_async(app)",
            )
        asyncio.run(until_idle(app, self.url, seconds(timeout)))

    async def run_until_idle_async(self, app: Wakelog, timeout: Duration = 30) -> None:
        """`run_until_idle` for async tests. Async handlers run in the test's event loop."""
        __tracebackhide__ = True
        await until_idle(app, self.url, seconds(timeout))

    def turn_clock(self, by: Duration) -> None:
        """Turn the clock of this database forward, on top of earlier turns: "1h", 90, timedelta(days=2).

        Retries, leases and pauses see it (`wakelog.clock()`), in `connection` and in whatever connects from now
        on; `occurred_at` and `recorded_at` of events stay the real time.
        """
        self._turned += seconds(by)
        offset = f"{self._turned} seconds"
        turn = sql.SQL("alter database {} set wakelog.clock_offset = {}")
        database = sql.Identifier(self.connection.info.dbname)
        self.connection.execute(turn.format(database, sql.Literal(offset)))
        self.connection.execute("select set_config('wakelog.clock_offset', %s, false)", [offset])

    def events(self, type: str | Sequence[str] | None = None) -> list[Event]:  # noqa: A002
        """What is in the log, in its order: all of it, or the types that match a pattern ("order.*", "#")."""
        while sequence(self.connection) is None:
            time.sleep(PAUSE)  # a worker outside this test is at it
        return list(read(self.connection, types=type))

    def emitted(self, agent: str | None = None) -> list[Event]:
        """The events that agents answered with, in the order of the log: `ctx.emit`, results, `<agent>.failed`."""
        answers = f"wakelog:{agent}/" if agent is not None else "wakelog:"
        return [event for event in self.events() if (event.idempotency_key or "").startswith(answers)]

    def dead_letters(self, agent: str | None = None) -> list[DeadLetter]:
        """The deliveries that were given up, oldest first."""
        with self.connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
            cursor.execute(
                """select agent, position, type, payload, reason, error, attempts from wakelog.dead_letters
                   where %(agent)s::text is null or agent = %(agent)s""",
                {"agent": agent},
            )
            return cursor.fetchall()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
