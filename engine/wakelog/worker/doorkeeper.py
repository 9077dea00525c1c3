"""The doorkeeper: sequences what has been committed and rings the workers that are wanted.

Overview
--------
One per database, elected by a session advisory lock; when its holder dies the server frees the lock and another
takes over within about a second. Every supervisor process runs a candidate. It runs no user code, so no handler
can deafen it. It is a convenience, not a necessity: while there is none, workers that sleep look by themselves
every second, sequencing first, and nothing is lost.

How this stays correct
----------------------
      sequence, ring --> found some? --> pause a little, again (events gather, one run takes them all; while they are
            ^              |             many, the database goes on by itself)
            |              | nothing
            |              v
            |         try the beacon, exclusively
            |              |-- refused: somebody is appending; again in 2 ms, doubling to 20
            |              `-- granted: sequence, ring once more; then wait on LISTEN; let go of the beacon
            `--------------'

An append holds the beacon, shared, until its transaction has ended, and a commit becomes visible before its
locks are freed. So once the beacon is granted, the look that follows sees every append that found nobody asleep.
Appends after that are refused the beacon, and notify. Nothing can fall between.

Sequencing and ringing are two transactions. A worker that fell asleep too late to be seen by the ring looks
once more by itself, after the sequencing has committed.

Failure handling: any lost connection is a lost office, and a new candidacy with backoff. A frozen doorkeeper
(SIGSTOP) keeps its lock and keeps the doors shut; the sleeping workers' own looks cover for it, at one a second.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any

import psycopg
from psycopg import AsyncConnection

from wakelog.errors import SequencerRefused, WakelogError, one_line, translate
from wakelog.postgres.connect import connect_async
from wakelog.worker.sealer import sealing

log = logging.getLogger("wakelog.doorkeeper")

GATHER = 0.002
"""Seconds between two runs while events keep coming. While they are many, the database makes them longer."""
LOOKING_ON = 0.1
"""Seconds for which the database goes on by itself, where a stop is not heard."""
SHORTEST_REFUSAL, LONGEST_REFUSAL = 0.002, 0.02
"""Seconds between two tries for the beacon."""
SLOW_LOOK = 1.0
"""Seconds between two looks for dead workers and due retries, and between two candidacies."""
HOUSEKEEPING = 3600.0
"""Seconds between two makings of history partitions."""


class Doorkeeper:
    """A candidate for the office, and its holder when elected. ``in_office`` tells."""

    def __init__(self, url: str, *, listening: bool = True) -> None:
        self.url = url
        self.listening = listening
        self.in_office = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Stand for office until stopped, and hold it when elected. Raises nothing but cancellation."""
        pause = 0.1
        while not self._stopping.is_set():
            try:
                async with await connect_async(
                    self.url,
                    application_name="wakelog doorkeeper",
                    prepare_threshold=5 if self.listening else None,
                ) as connection:
                    office = Office(connection, self._stopping, listening=self.listening)
                    await self._candidacy(office)
                    pause = 0.1
                    if not self._stopping.is_set():
                        self.in_office.set()
                        async with sealing(self.url, listening=self.listening):
                            await office.hold()
            except (psycopg.Error, WakelogError) as error:
                translated = translate(error) if isinstance(error, psycopg.Error) else error
                log.warning("out of office, again in %.1f s: %s", pause, one_line(translated or error))
            finally:
                self.in_office.clear()
            await _pause(self._stopping, pause)
            pause = min(pause * 2, 5.0)

    async def _candidacy(self, office: "Office") -> None:
        while not self._stopping.is_set() and not await office.elected():
            await _pause(self._stopping, SLOW_LOOK)


class Office:
    """The duties of the doorkeeper, on the connection that holds the office."""

    def __init__(self, connection: AsyncConnection[Any], stopping: asyncio.Event, *, listening: bool) -> None:
        self._connection = connection
        self._stopping = stopping
        self._listening = listening
        self._next_look = 0.0
        self._rung = -1
        """How far the log reached when workers were last rung."""
        self._gather = GATHER
        """How long the next run may wait, while many events keep coming."""
        self._next_housekeeping = 0.0

    async def elected(self) -> bool:
        """Whether the office could be had. Behind a pooler no lock can be kept, and all are elected."""
        if not self._listening:
            return True
        return await self._ask("select pg_try_advisory_lock(wakelog.lock_space('doorkeeper'), 0)")

    async def hold(self) -> None:
        """Keep the doors until stopped. Raises psycopg.Error when the connection is lost."""
        if await self._ask("select wakelog.is_restored()"):
            added = await self._ask("select wakelog.rebase()")
            log.warning("the log came from another cluster; rebased, %s events added", added)
        await self._connection.execute("listen wakelog")
        log.info("in office")
        refused = SHORTEST_REFUSAL
        found = await self._look()
        while not self._stopping.is_set():
            if found:
                refused = SHORTEST_REFUSAL
                found = await self._look_on()
                continue
            if found is None or not self._listening:  # another session is sequencing, and may leave some
                await _pause(self._stopping, LONGEST_REFUSAL)
            elif await self._ask("select pg_try_advisory_lock(wakelog.lock_space('beacon'), 0)"):
                refused = SHORTEST_REFUSAL
                try:
                    if await self._look() == 0:
                        await self._listen(self._next_look - time.monotonic())
                        await self._look()  # before letting go: whoever was heard waits for this
                finally:
                    await self._ask("select pg_advisory_unlock(wakelog.lock_space('beacon'), 0)")
            else:
                await _pause(self._stopping, refused)
                await self._hear(0.0)  # for an append may stay open for long, and keep it from listening
                refused = min(refused * 2, LONGEST_REFUSAL)
            found = await self._look()

    async def _look(self) -> int | None:
        """Sequence and ring; how many events were found.

        None where another session was sequencing at that moment.
        """
        now = time.monotonic()
        slow = now >= self._next_look
        if slow:
            self._next_look = now + SLOW_LOOK
            await self._ask("select wakelog.reap_workers()")
            if now >= self._next_housekeeping:
                await self._keep_house(now)
        self._rung, found, due_in = await self._row("call wakelog.look(%s, %s)", [slow, self._rung])
        self._look_in(due_in, now)
        return found

    async def _look_on(self) -> int | None:
        """Wait a little and look; while many are found the database goes on so by itself. What the last look found."""
        now = time.monotonic()
        seconds = min(self._next_look - now, LOOKING_ON)
        if seconds <= 0:
            await _pause(self._stopping, GATHER)
            return await self._look()
        self._gather, self._rung, found, due_in = await self._row(
            "call wakelog.look_on(%s, %s, %s)", [seconds, self._gather, self._rung]
        )
        self._look_in(due_in, time.monotonic())
        return found

    def _look_in(self, seconds: float | None, now: float) -> None:
        """Have the next slow look no later than that, where something is due then."""
        if seconds is not None:
            self._next_look = min(self._next_look, now + max(seconds, 0.001))

    async def _keep_house(self, now: float) -> None:
        """Make history partitions. What stands in the way is told, and tried again in a minute."""
        self._next_housekeeping = now + HOUSEKEEPING
        try:
            await self._ask("select set_config('lock_timeout', '200ms', false)")
            await self._ask("select wakelog.make_history_partitions()")
        except psycopg.errors.LockNotAvailable as error:
            log.warning("no history partitions made: %s", one_line(error))
            self._next_housekeeping = now + 60.0
        finally:
            await self._ask("select set_config('lock_timeout', '0', false)")

    async def _listen(self, seconds: float) -> None:
        """Wait for an append to notify, or for the time to pass."""
        heard = asyncio.create_task(self._hear(seconds))
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([heard, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, heard):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if heard.done() and not heard.cancelled():
            heard.result()
        self._rung = -1

    async def _hear(self, seconds: float) -> None:
        async for heard in self._connection.notifies(timeout=max(seconds, 0.0), stop_after=1):
            if heard.payload == "ring":  # not an append: there is work that needs no sequencing
                self._next_look = 0.0

    async def _ask(self, query: str) -> Any:
        return (await self._row(query, None))[0]

    async def _row(self, query: Any, parameters: list[Any] | None) -> tuple[Any, ...]:
        try:
            row = await (await self._connection.execute(query, parameters)).fetchone()
        except psycopg.Error as error:
            known = translate(error)
            if isinstance(known, SequencerRefused):
                raise known from None
            raise
        assert row is not None
        return row


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
