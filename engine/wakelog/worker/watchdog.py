"""The worker's second thread: signs of life, and an end to handlers that will not end.

How this stays correct
----------------------
It has a connection of its own, so a handler that holds the event loop for long delays neither the heartbeat,
which keeps the leases of everything the worker holds, nor the end of its own time.

Handlers that the event loop cannot end, because they never return to it or run in a thread, get
TimeLimitExceeded raised inside them through CPython's PyThreadState_SetAsyncExc, which takes effect at the
next bytecode. Into the event loop's thread it is raised only while the overdue handler's task is the one running.
A handler in C code that never comes back to Python cannot be reached so; after PATIENCE the failure is
recorded from here and the whole process is replaced by its supervisor.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection

from wakelog.errors import UnknownWorker, WakelogError, one_line
from wakelog.postgres.connect import connect
from wakelog.worker.delivery import Held, Work
from wakelog.worker.threads import TimeLimitExceeded, raise_in_thread

log = logging.getLogger("wakelog.worker")

TICK = 0.1
"""Seconds between two looks at the clock."""
LOOP_GRACE = 0.5
"""Seconds the event loop has to cancel an overdue handler itself."""
PATIENCE = 5.0
"""Seconds after that in which a handler must have ended, or its process is."""
REPLACE = 75
"""Exit code of a process that wants to be replaced."""


class Watchdog(threading.Thread):
    """Runs until :meth:`stop`. ``die`` ends the process."""

    def __init__(
        self,
        url: str,
        worker: int,
        held: Held,
        *,
        lease: float,
        die: Callable[[str], None],
    ) -> None:
        super().__init__(name="wakelog-watchdog", daemon=True)
        self._url = url
        self._worker = worker
        self._held = held
        self._lease = lease
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._connection: Connection[Any] | None = None
        self.lost = asyncio.Event()
        """Set when the database has told that this worker was found dead, and its work given to others."""

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        next_beat = time.monotonic() + self._lease / 3
        while not self._stopped.wait(TICK):
            now = time.monotonic()
            try:
                for work in self._held.running():
                    self._watch(work, now)
                if now >= next_beat:
                    beaten = self._beat()
                    next_beat = now + (self._lease / 3 if beaten else 1.0)
            except Exception:
                log.exception("the watchdog goes on after")
        if self._connection is not None:
            self._connection.close()

    def _watch(self, work: Work, now: float) -> None:
        overdue = work.overdue(now)
        if overdue > LOOP_GRACE + PATIENCE:
            self._give_up(work)
        elif overdue > LOOP_GRACE and now >= work.next_push:
            work.next_push = now + 1.0
            self._end(work)

    def _beat(self) -> bool:
        deliveries = self._held.all()
        sent_at = time.monotonic()
        try:
            self._ask(
                "select wakelog.heartbeat(%s, %s, %s, make_interval(secs => %s))",
                [
                    self._worker,
                    [d.agent.name for d in deliveries],
                    [d.position for d in deliveries],
                    self._lease,
                ],
            )
        except (psycopg.Error, WakelogError) as error:
            log.warning("no heartbeat: %s", one_line(error))
            if isinstance(error, psycopg.Error) and error.sqlstate == UnknownWorker.sqlstate:
                self._loop.call_soon_threadsafe(self.lost.set)
            return False
        self._held.prolonged(deliveries, sent_at + self._lease)
        return True

    def _end(self, work: Work) -> None:
        running = asyncio.current_task(self._loop)
        if work.threads:
            for ident in list(work.threads):
                raise_in_thread(ident, TimeLimitExceeded)
        elif work.task is not None and running is work.task:
            for other in self._held.running():
                other.blocked = other is not work
            if asyncio.current_task(self._loop) is work.task:  # looked at again, as close as can be
                raise_in_thread(self._loop_thread, TimeLimitExceeded)
        elif work.task is not None:
            self._loop.call_soon_threadsafe(work.push)

    def _give_up(self, work: Work) -> None:
        self._record(work)
        self._die(f'agent "{work.agent.name}" at {work.where} cannot be ended')

    def _record(self, work: Work) -> None:
        try:
            self._ask(
                """select wakelog.fail(%s, d.position, %s, d.attempt, %s)
                   from unnest(%s::bigint[], %s::integer[]) as d (position, attempt)""",
                [
                    work.agent.name, self._worker,
                    f"the time limit of {work.agent.timeout:g} s passed, and its process had to be ended",
                    [d.position for d in work.deliveries], [d.attempt for d in work.deliveries],
                ],
            )  # fmt: skip
        except (psycopg.Error, WakelogError) as error:
            log.warning("the failure was not recorded: %s", one_line(error))

    def _ask(self, query: Any, parameters: list[Any]) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url, application_name="wakelog watchdog", prepare_threshold=None)
        self._connection.execute(query, parameters)


def end_process(code: int) -> None:
    """End this process at once, whatever its threads do."""
    logging.shutdown()
    os._exit(code)
