"""A worker at work: it claims as much as it has room for, runs it, sleeps until it is rung.

How this stays correct
----------------------
      look --> found something --> run it, look again when there is room
       |
       `--> found nothing --> say "asleep" (committed) --> look once more --> wait to be rung

Whoever rings does so after its sequencing has committed, and rings those it sees asleep. A worker it does not
see asleep says so later, and looks later still: it finds what was sequenced. A bell that is not heard costs a
second, the time after which a sleeping worker looks by itself, sequencing first in case nobody keeps the doors.
"""

import asyncio
import contextlib
import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from wakelog.agents.definition import AgentDefinition
from wakelog.errors import UnknownAgent, UnknownWorker, WakelogError, one_line
from wakelog.worker.batches import BatchClaims, grouped
from wakelog.worker.claims import Claims
from wakelog.worker.connections import HandlerConnections
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.execution import Execution
from wakelog.worker.queue import WorkQueue
from wakelog.worker.session import Session
from wakelog.worker.settling import Settling
from wakelog.worker.watchdog import REPLACE, Watchdog, end_process

if TYPE_CHECKING:
    from wakelog.worker.process import Worker

log = logging.getLogger("wakelog.worker")

POLL = 1.0
"""Seconds a sleeping worker waits before it looks by itself."""
POOLED_POLL = 0.2
"""The same where it cannot be rung, because LISTEN does not work."""
LARGEST_BATCH = 500
UNWRITTEN = 2000
"""So many deliveries of an agent, besides those in slots, may be in hand before more are claimed: where the database
is slower to take what is done than to hand out more, they would pile up without end."""
SHARES = 16
"""Among so many agents at most is the room of one look divided: a claim for a single event costs nearly as much as one
for thirty. Where that uses it up, the others come into the next look."""
ALONE = 5.0
"""Seconds for which nothing is claimed beside a delivery in its last chance."""
IN_A_ROW = 0.002
"""Seconds for which a slot goes on with handlers that wait for nothing, before everything else has its turn."""
AHEAD = 0.05
"""Seconds of work, at the speed seen so far, that a worker claims ahead of its slots."""
LAST_WORDS = 10.0
"""Seconds a worker that ends tries to reach the database."""
PROMPTLY = 0.04
"""Seconds from the claim in which work of an agent with a rate must start; the claim counts on 0.05."""
BUSY = 0.1
"""Seconds after which a worker looks again that could not, since somebody holds a table it needs."""
REST = 5.0
"""Seconds for which an agent is left alone when claiming for it fails."""


class Shift:
    """What a worker does from one registration to the loss of its connection, or to its end."""

    promptly = PROMPTLY

    def __init__(self, worker: "Worker", session: Session) -> None:
        self.worker = worker
        self.session = session
        self.agents = worker.app.agents
        self.held = Held()
        pooled = not session.listening
        self.settling = Settling(worker.url, session.worker, self.held, pooled=pooled)
        self.connections = HandlerConnections(worker.url, pooled=pooled)
        self.queue = WorkQueue()
        self.execution = Execution(
            session.worker, self.connections, self.settling, self.queue, worker.slots, worker.replace
        )
        self.watchdog = Watchdog(worker.url, session.worker, self.held, lease=worker.lease, die=self._die)
        self.claims = Claims(session, self.held, self._give_back)
        self.batch_claims = BatchClaims(worker.slots, self.held)
        self.alone: Delivery | None = None
        """One in its last chance, beside which nothing is claimed: what comes may take this process with it."""
        self.seconds_each = 1.0
        self.asleep = False
        self.resting: dict[str, float] = {}
        """Agents whose claims fail, and until when they are left alone, on the monotonic clock."""
        self.ending = False
        """Whether the slots are to begin nothing more."""
        self.passed_over: list[str] = []
        """Agents that may have work and had no share of the last look. They come first in the next."""

    async def run(self) -> None:
        """Work until the worker stops or the connection is lost (which raises)."""
        self.watchdog.start()
        slots: list[asyncio.Task[Any]] = [asyncio.create_task(self._slot()) for _ in range(self.worker.slots)]
        settler = asyncio.create_task(self.settling.run())
        looking = asyncio.create_task(self._look_and_sleep())
        stopped = asyncio.create_task(self.worker.stopping.wait())
        lost = asyncio.create_task(self._until_lost())
        tasks: list[asyncio.Task[Any]] = [*slots, settler, looking, lost]
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._look_no_more(looking)
            await self._finish_up(slots)
        except (psycopg.OperationalError, WakelogError):
            raise  # what it had is no longer this worker's
        except Exception:
            self.ending = True
            await _end(slots)
            await self._give_back(self.held.all())
            raise
        finally:
            self.ending = True
            self.watchdog.stop()
            self.claims.forget()
            await _end([*tasks, stopped])
            await self.settling.close()
            await self.connections.close()
            self.execution.threads.close()
            await self.session.close()

    async def _until_lost(self) -> None:
        """Until the watchdog is told that this worker was taken off the list, which raises."""
        await self.watchdog.lost.wait()
        raise UnknownWorker("this worker was found dead, and others have what it held")

    async def _look_no_more(self, looking: "asyncio.Task[Any]") -> None:
        """Let a claim that is under way come back, so that what it brings can be given back."""
        self.held.eased.set()
        self.held.stir.set()
        await asyncio.wait([looking], timeout=LAST_WORDS)
        await _end([looking])

    async def _look_and_sleep(self) -> None:
        names: list[str] | None = None
        while not self.worker.stopping.is_set():
            try:
                names = await self._look_or_sleep(names)
            except psycopg.errors.LockNotAvailable as held:
                # As by an upgrade, for a moment: nothing in hand is lost by it.
                log.info("looking again in %.1f s: %s", BUSY, one_line(held))
                names = None
                await self._wait(self.worker.stopping, BUSY)

    async def _look_or_sleep(self, names: list[str] | None) -> list[str] | None:
        """Look once, for these agents where some were rung for, and sleep if there is nothing; the agents rung for."""
        room = self._room()
        if room <= 0:
            self.held.eased.clear()
            await self.claims.take()
            await self._wait(self.held.eased, POLL)
            await self.session.still_there()
            return names
        self.held.made_room = False
        if await self._look(names, room) or self.worker.stopping.is_set():
            return None
        await asyncio.sleep(0)  # what was found begins before the database is told of sleep
        room = max(1, self._room())
        await self.session.fall_asleep(room)
        self.asleep = True
        before = len(self.held)
        more = await self._look(None, room)
        rung: list[str] | None = None
        if not more and len(self.held) <= before:
            await self.claims.take()  # of an agent that rests
            rung = await self._left() or await self._sleep()
        if self.asleep:
            self.asleep = False
            await self.session.wake_up()
        return rung

    async def _left(self) -> list[str] | None:
        """The agents for which there is more to look through than one claim does; a moment's pause if so."""
        names = [name for name in self.agents if self.resting.get(name, 0.0) <= time.monotonic()]
        left = await self.session.ready_agents(names)
        if left:
            await asyncio.sleep(0.01)
        return left

    async def _look(self, names: list[str] | None, room: int) -> bool:
        """Claim for the agents that may have work, each its share; whether there may be more."""
        if names:
            self.passed_over = [name for name in self.passed_over if name not in names]
        else:
            names, self.passed_over = self.passed_over, []
            if not names:
                names = list(self.agents)
                if len(names) > 1:
                    names = await self.session.ready_agents(names)
        more = crowded = found = False
        now = time.monotonic()
        names = list(dict.fromkeys([*names, *self.claims.ahead]))
        names = [name for name in names if name in self.agents and self.resting.get(name, 0.0) <= now]
        random.shuffle(names)  # so that none is always the last
        least = -(-room // SHARES)
        for left, name in zip(range(len(names), 0, -1), names, strict=True):
            agent = self.agents[name]
            share = min(room, max(least, -(-room // left)))
            if agent.rate is not None:
                # What is claimed must start at once. Finishing something stirs the sleeper (Held.drop).
                share = min(share, self._places_at_once())
                if share <= 0:
                    continue
            if share <= 0 or self._somebody_is_alone():
                self.passed_over.append(name)
                continue
            limit = self._limit(agent, share, -self.claims.taken_of(agent))
            if limit <= 0:
                crowded = True
                continue
            try:
                more_of_it = partial(self._limit_ahead, agent, share) if len(names) == 1 else _none
                claim = await self.claims.claim(agent, limit, share, more_of_it)
            except UnknownAgent as removed:
                log.warning("%s any more; this worker goes on without it", str(removed).partition("\n")[0])
                del self.agents[name]
                continue
            except psycopg.errors.LockNotAvailable:
                continue  # somebody holds this agent's cursor; the next look is soon enough
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                log.error("%s cannot be claimed for: %s; again in %.0f s", name, one_line(error), REST)
                self.resting[name] = now + REST
                continue
            more = more or claim.full
            found = found or bool(claim.deliveries)
            if claim.stale:
                await self._give_back(claim.deliveries)
                continue
            if claim.deliveries and claim.deliveries[0].last_chance:
                self.alone = claim.deliveries[0]
            work, excess = grouped(agent, claim.deliveries), list[Delivery]()
            if agent.batch is not None:
                work, excess = self.batch_claims.admit(agent, work, max(share, claim.share))
            room -= len(work)
            for one in work:
                self.queue.put_nowait(one)
            if excess:
                await self._give_back(excess)
        if crowded and not found:
            self.held.eased.clear()
            await self.claims.take()
            await self._wait(self.held.eased, POLL)
        return more or crowded or bool(self.passed_over)

    async def _sleep(self) -> list[str] | None:
        """Wait to be rung, for a retry to be due, or for the time to look anyway; the agents rung for."""
        until = time.monotonic() + (POLL if self.session.listening else POOLED_POLL)
        while (now := time.monotonic()) < until and not self.worker.stopping.is_set():
            if self.held.again_at <= now:
                self.held.seen_to(now)
                return None
            if self.held.made_room:
                return None
            rung = await self.session.bell(min(until, self.held.again_at) - now, self.held.stir)
            if rung is not None:
                self.asleep = False
                return rung
        await self.session.sequence()
        return None

    def _limit(self, agent: AgentDefinition, share: int, besides: int = 0) -> int:
        """How many deliveries to claim for a share of the slots; 0 while there are enough that wait to be written.

        ``besides`` are claimed already, and not held yet; below 0, so many are held that were not asked for yet.
        """
        if agent.batch is not None:
            return self.batch_claims.limit(agent, share, besides)
        return min(share, self.worker.slots + UNWRITTEN - self.held.of(agent) - besides)

    def _limit_ahead(self, agent: AgentDefinition, share: int, meanwhile: int, not_held: int) -> int:
        """How many to claim while those are worked off: none, unless that is done in a moment, and nothing has to begin
        at once. ``not_held`` of them are not held yet.
        """
        calls = -(-meanwhile // (agent.batch or 1))
        quick = agent.rate is None and calls * self.seconds_each <= self.worker.slots * AHEAD
        return self._limit(agent, share, not_held) if quick else 0

    def _places_at_once(self) -> int:
        """How many deliveries may be claimed that have to begin at once: they go ahead of what waits in the queue."""
        free = self.worker.slots - self.held.slots_taken - self.queue.ahead
        soon = self.seconds_each / self.worker.slots < PROMPTLY / 4
        return max(free, 1 - self.queue.ahead if soon else 0)

    def _somebody_is_alone(self) -> bool:
        """Whether a delivery in its last chance has come into hand a moment ago, and has not ended."""
        alone = self.alone
        if alone is not None and (alone not in self.held or time.monotonic() > alone.claimed_at + ALONE):
            self.alone = alone = None
        return alone is not None

    def _room(self) -> int:
        """How much more to claim: what the slots can do in a short time, so that others get their share."""
        if self._somebody_is_alone():
            return 0
        ahead = int(self.worker.slots * AHEAD / max(self.seconds_each, 1e-6))
        wanted = max(self.worker.slots, min(ahead, LARGEST_BATCH))
        room = wanted - self.queue.qsize() - self.held.slots_taken
        return room if room >= wanted // 2 or self.queue.empty() else 0

    async def _slot(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        let_others_at = 0.0
        while not self.ending:
            while task.cancelling():
                task.uncancel()  # the watchdog's, which the last handler did not mind
            if time.monotonic() > let_others_at and not self.queue.empty():
                await asyncio.sleep(0)
                let_others_at = time.monotonic() + IN_A_ROW
            work = await self.queue.get()
            first = work.deliveries[0]  # all of it in one claim
            started = time.monotonic()
            if self.watchdog.lost.is_set():
                self.held.drop(work.deliveries)
                continue
            if started >= self.held.until(first):  # what has not been lost while this process could not run
                await self._give_back(work.deliveries)
                continue
            if work.agent.rate is not None and started - first.claimed_at > self.promptly:
                await self._give_back(work.deliveries)  # too late to keep the pace
                continue
            self.held.start(work)
            try:
                await self.execution.run(work, task)
            finally:
                self.held.end(work)
            self.seconds_each += 0.05 * (time.monotonic() - started - self.seconds_each)

    async def _finish_up(self, slots: "list[asyncio.Task[Any]]") -> None:
        """Give back what has not begun, let what runs end within the grace time, write it all down."""
        unbegun = list[Delivery]()
        while not self.queue.empty():
            unbegun += self.queue.get_nowait().deliveries
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                unbegun += await self.claims.last()
        await self._give_back(unbegun)
        deadline = time.monotonic() + self.worker.grace
        while self.held.slots_taken and time.monotonic() < deadline:
            self.held.eased.clear()
            await self._wait(self.held.eased, min(1.0, deadline - time.monotonic()))
        unfinished = self.held.running()
        self.ending = True
        await _end(slots)
        await self._give_back([delivery for work in unfinished for delivery in work.deliveries])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.settling.flush()
        await self.session.stop()

    async def _give_back(self, deliveries: list[Delivery]) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self.settling.release(deliveries)
        except (TimeoutError, WakelogError, psycopg.Error):
            self.held.drop(deliveries)  # or they would be prolonged, and nobody would ever begin with them

    async def _wait(self, event: asyncio.Event, timeout: float) -> None:
        # Not wait_for, which may swallow being cancelled at the moment in which the event comes.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(timeout, 0.001)):
                await event.wait()

    def _die(self, why: str) -> None:
        log.error("this process is ended: %s", why)
        end_process(REPLACE)


def _none(meanwhile: int, not_held: int) -> int:
    return 0


async def _end(tasks: "list[asyncio.Task[Any]]") -> None:
    """Cancel them, and again those whose handlers do not mind, for so long as a process has to stop."""
    waiting = {task for task in tasks if not task.done()}
    until = time.monotonic() + LAST_WORDS
    patience = LAST_WORDS / 2  # for what a handler does to clean up
    while waiting and time.monotonic() < until:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=patience)
        patience = 1.0
    if waiting:
        log.error("%d handlers do not end when they are cancelled, and are left behind", len(waiting))
    await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)
