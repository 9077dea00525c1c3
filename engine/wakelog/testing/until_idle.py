"""Agents run inside a test's process until there is nothing left for them to do.

How this stays correct
----------------------
      sequence, ring --> idle? --> no: again in a moment
                           `----> yes: the worker stops, and everything it had is written

The worker is the real one; this keeps the doors for it, as the doorkeeper does. Whether it is idle is asked of the
database in one statement, which sees one snapshot: nothing without a position, no agent with something to claim,
nothing in this worker's hands. Claims, acknowledgements and the events they answer with are each one commit, so what
is in none of the three places is nowhere, and nobody but the test itself could add to it.

A worker may end its process when a handler cannot be ended. This one shares it with the test, so it
only says so; where it wants to be replaced, another takes its place, as the supervisor would see to.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from typing import Any, LiteralString

from psycopg import AsyncConnection

from wakelog.agents.app import Wakelog
from wakelog.postgres.connect import connect_async, safe_url
from wakelog.projections.runner import catch_up
from wakelog.worker.delivery import Held, Work
from wakelog.worker.process import Worker
from wakelog.worker.session import Session
from wakelog.worker.shift import Shift
from wakelog.worker.watchdog import LOOP_GRACE, Watchdog

log = logging.getLogger("wakelog.testing")

PAUSE = 0.005
"""Seconds between two looks."""
LAST_MINUTE = 10.0
"""Seconds the worker has to end, however its handlers behave."""

_IDLE: LiteralString = """
    select not exists (select from wakelog.without_position(1))
       and not exists (select from wakelog.ready_agents(%s))
       and not exists (select from wakelog.deliveries d where d.worker = %s)
"""
_LEFT: LiteralString = """
    select format('%%s at %%s (%%s), attempt %%s: %%s for %%s s', f.agent, f.position, f.type, f.attempt, f.state,
                  round(extract(epoch from f.since_claim)::numeric, 1)),
           f.last_error
    from wakelog.in_flight f where f.agent = any (%s)
    union all
    select format('%%s: events it has not been given', r.agent), null from wakelog.ready_agents(%s) r
    union all
    select format('%%s committed events without a position', count(*)), null
    from wakelog.without_position() having count(*) > 0
    union all
    select format('%%s at %%s (%%s), attempt %%s: given up', x.agent, x.position, x.type, x.attempts), x.error
    from wakelog.dead_letters x where x.agent = any (%s)
"""


class NotIdle(AssertionError):
    """There was still work when the time had passed. `left` says what, a line for each delivery."""

    def __init__(self, message: str, left: list[str]) -> None:
        super().__init__(message)
        self.left = left


async def until_idle(app: Wakelog, url: str, timeout: float) -> None:
    """Run the agents of an app until nothing is unsequenced, due or in flight, and then fold its projections.

    Raises `NotIdle`.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    app = _from_the_beginning(app)
    async with await connect_async(url, application_name="wakelog test") as doors:
        await doors.execute("select wakelog.reap_workers()")
        while True:
            worker = Worker(app, url, grace=0.0)
            session = await Session.start(
                url, app.agents.values(), app.families.values(), lease=worker.lease, listening=True
            )
            shift = _TestShift(worker, session, deadline)
            working = asyncio.create_task(shift.run())
            try:
                left = await _watch(doors, shift, working)
            finally:
                worker.stop()
                await _end(working)
            if left is None:
                left = await asyncio.to_thread(catch_up, url, app.projections)
                if not left:
                    return
                lines = "".join(f"\n  {line}" for line in left)
                raise NotIdle(
                    f'expected the projections of "{app.name}" to fold the log, found:{lines}', left
                )
            if left or time.monotonic() >= deadline:
                left = [*shift.ended, *left]
                lines = "".join(f"\n  {line}" for line in left)
                raise NotIdle(
                    f'expected the agents of "{app.name}" to be idle within {timeout:g} s, found:{lines}\n'
                    f"Give them longer (timeout=), or look: psql {safe_url(url)}",
                    left,
                )


async def _watch(
    doors: AsyncConnection[Any], shift: "_TestShift", working: "asyncio.Task[None]"
) -> list[str] | None:
    """None once the worker is idle; what is left when the time has passed; nothing where it wants a successor."""
    names = list(shift.agents)
    while True:
        if working.done():
            working.result()
            return []
        await doors.execute("call wakelog.look(true, -1)")
        answer = await doors.execute(_IDLE, [names, shift.session.worker])
        idle = await answer.fetchone()
        if idle == (True,) and not shift.ended:  # what was ended is not due again yet, and not done either
            return None
        if time.monotonic() >= shift.deadline:
            return await _left(doors, names)
        await asyncio.wait([working], timeout=PAUSE)


async def _left(doors: AsyncConnection[Any], names: list[str]) -> list[str]:
    rows = await (await doors.execute(_LEFT, [names, names, names])).fetchall()
    return [f"{what}; last error: {error}" if error else what for what, error in rows]


async def _end(working: "asyncio.Task[None]") -> None:
    done, _ = await asyncio.wait([working], timeout=LAST_MINUTE)
    if not done:
        log.error("a handler does not end; it is left behind")
        working.cancel()
    elif not working.cancelled() and (error := working.exception()) is not None:
        raise error


def _from_the_beginning(app: Wakelog) -> Wakelog:
    """A copy whose agents begin with the log: in a test, "now" is not the moment somebody runs them."""
    copy = Wakelog(app.name)
    copy.families = app.families
    copy.projections = app.projections
    for name, agent in app.agents.items():
        start = "beginning" if agent.start == "now" else agent.start
        copy.agents[name] = dataclasses.replace(agent, start=start)
    return copy


class _TestShift(Shift):
    """A shift that ends with the test's time, and never its process."""

    # Nobody keeps this pace but this worker. Work that was given back, since the machine stood still between its claim
    # and its beginning, would be held back for the whole window, and the test would find it not done.
    promptly = math.inf

    def __init__(self, worker: Worker, session: Session, deadline: float) -> None:
        super().__init__(worker, session)
        self.deadline = deadline
        self.ended: list[str] = []
        """The handlers that had to be ended, since they would not let go of the event loop."""
        self.watchdog = _TestWatchdog(
            worker.url, session.worker, self.held, lease=worker.lease, die=self._die,
            deadline=deadline, ended=self.ended.append,
        )  # fmt: skip

    def _die(self, why: str) -> None:
        log.error("a worker's process would be ended now: %s", why)


class _TestWatchdog(Watchdog):
    """A watchdog that ends every handler when the test's time has passed."""

    def __init__(
        self, url: str, worker: int, held: Held, *, lease: float, die: Callable[[str], None],
        deadline: float, ended: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(url, worker, held, lease=lease, die=die)
        self._deadline = deadline
        self._ended = ended
        self._given_up: set[Work] = set()

    def _watch(self, work: Work, now: float) -> None:
        super()._watch(work, now)
        late = now - self._deadline > LOOP_GRACE and work.started_at is not None
        if late and now >= work.next_push:
            work.next_push = now + 1.0
            self._ended(
                f"{work.agent.name} at {work.where} ({work.deliveries[0].event.type}), "
                f"attempt {work.attempt}: kept everybody waiting, and was ended"
            )
            self._end(work)

    def _give_up(self, work: Work) -> None:
        if work not in self._given_up:
            self._given_up.add(work)
            super()._give_up(work)
