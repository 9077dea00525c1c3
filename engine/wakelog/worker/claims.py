"""Claims over a worker's session. Of an agent whose work is quick, the next one is under way while the last is worked
off: the database looks for deliveries at the same time as this process reads and handles them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg

from wakelog.agents.definition import AgentDefinition
from wakelog.errors import WakelogError
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.session import Claimed, Session


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought, and of how many deliveries at most, for how many slots, it was."""

    deliveries: list[Delivery]
    limit: int
    share: int
    stale: bool
    """Whether it lay about for so long that nobody should begin with it: it is to be given back."""

    @property
    def full(self) -> bool:
        """Whether there may be more."""
        return len(self.deliveries) == self.limit


@dataclass(slots=True)
class _Ahead:
    agent: AgentDefinition
    limit: int
    share: int
    task: asyncio.Task[Claimed]
    taken: list[Delivery] | None = None
    """What it brought, once that is in `held`."""


GiveBack = Callable[[list[Delivery]], Awaitable[None]]


class Claims:
    """All claims of a worker's shift; at most one is under way ahead. What one brings is in `held` once it is read.

    How nothing that is claimed is left lying: the heartbeat prolongs what is in `held`. So what was claimed ahead is
    read when it is asked for, or, where there is no room for it, when it has come (`take`). What cannot be read for a
    reason that is not its own is given back, and that does not count.
    """

    def __init__(self, session: Session, held: Held, give_back: GiveBack) -> None:
        self._session = session
        self._held = held
        self._give_back = give_back
        self._ahead: _Ahead | None = None

    @property
    def ahead(self) -> list[str]:
        """The agent for which one is under way, or has come and was not asked for yet."""
        return [self._ahead.agent.name] if self._ahead is not None else []

    def taken_of(self, agent: AgentDefinition) -> int:
        """How many of the agent's deliveries are in `held`, and were not asked for yet."""
        ahead = self._ahead
        return len(ahead.taken or ()) if ahead is not None and ahead.agent.name == agent.name else 0

    async def claim(
        self, agent: AgentDefinition, limit: int, share: int, more: Callable[[int, int], int]
    ) -> Claim:
        """What is under way for the agent, or a new claim; where it is full, another is begun.

        ``more`` says for how many, while so many are worked off, of which so many are not held yet; 0 for none.

        Raises what `Session.ask` does.
        """
        if (ahead := self._ahead) is not None and ahead.agent.name == agent.name:
            self._ahead = None
            limit, share, taken = ahead.limit, ahead.share, ahead.taken
            claimed = await ahead.task
        else:
            taken = None
            claimed = await self._session.ask(agent, limit)
        # A single one may be one that is to be alone (Delivery.last_chance).
        if 1 < limit == claimed.found and self._ahead is None:
            next_limit = more(limit, limit if taken is None else 0)
            if next_limit > 0:
                asked = asyncio.create_task(self._session.ask(agent, next_limit))
                self._ahead = _Ahead(agent, next_limit, share, asked)
                await asyncio.sleep(0)  # it is sent before the rows of this one are read
        if taken is not None:
            return Claim(taken, limit, share, stale=False)
        deliveries = await self._take(claimed)
        # Leases are prolonged from now on, and the next time may be nearly a whole one away.
        stale = time.monotonic() > claimed.asked_at + self._session.lease / 3
        return Claim(deliveries, limit, share, stale)

    async def take(self) -> None:
        """Have what is under way in `held`, for there is no room to begin with it.

        Raises psycopg.OperationalError where what has come cannot be read.
        """
        ahead = self._ahead
        if ahead is None or ahead.taken is not None:
            return
        await asyncio.wait([ahead.task])
        if self._ahead is ahead and ahead.task.exception() is None:  # else whoever asks for it is told
            self._ahead = None  # where it cannot be read, there is none any more
            ahead.taken = await self._take(ahead.task.result())
            self._ahead = ahead

    async def last(self) -> list[Delivery]:
        """What the claim under way brings, for who stops; nothing where it fails."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.taken is not None:
            return [] if ahead is None else ahead.taken or []
        with contextlib.suppress(psycopg.Error, WakelogError):
            return await self._take(await ahead.task)
        return []

    def forget(self) -> None:
        """End what is under way. What it would have brought comes to others when its lease runs out."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.task.cancel() and not ahead.task.cancelled():
            ahead.task.exception()  # nobody will ask

    async def _take(self, claimed: Claimed) -> list[Delivery]:
        deliveries = await self._session.read(claimed)
        self._held.add(deliveries, claimed.asked_at + self._session.lease)
        try:
            await self._session.unveil(deliveries)
        except psycopg.Error:
            await self._give_back(deliveries)
            raise
        return deliveries
