"""Claims over a worker's session. Of an agent whose work is quick, the next one is under way while the last is worked
off: the database looks for deliveries at the same time as this process reads and handles them.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class _Ahead:
    agent: str
    limit: int
    share: int
    task: asyncio.Task[Claimed]


class Claims:
    """All claims of a worker's shift; at most one is under way ahead. What one brings is in `held` once it is read."""

    def __init__(self, session: Session, held: Held) -> None:
        self._session = session
        self._held = held
        self._ahead: _Ahead | None = None

    @property
    def ahead(self) -> list[str]:
        """The agent for which one is under way, or has come and was not asked for yet."""
        return [self._ahead.agent] if self._ahead is not None else []

    async def claim(
        self, agent: AgentDefinition, limit: int, share: int, more: Callable[[int], int]
    ) -> Claim:
        """What is under way for the agent, or a new claim; where it is full, another is begun.

        ``more`` says for how many, beside those that this one brings; 0 for none.

        Raises what `Session.ask` does.
        """
        ahead = self._ahead
        if ahead is not None and ahead.agent == agent.name:
            self._ahead = None
            return await self._read(agent, await ahead.task, ahead.limit, ahead.share, more)
        return await self._read(agent, await self._session.ask(agent, limit), limit, share, more)

    async def last(self, agents: dict[str, AgentDefinition]) -> list[Delivery]:
        """What the claim under way brings, for who stops; nothing where it fails."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.agent in agents:
            with contextlib.suppress(psycopg.Error, WakelogError):
                claim = await self._read(
                    agents[ahead.agent], await ahead.task, ahead.limit, ahead.share, lambda _: 0
                )
                return claim.deliveries
        return []

    def forget(self) -> None:
        """End what is under way. What it would have brought comes to others when its lease runs out."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.task.cancel()

    async def _read(
        self, agent: AgentDefinition, claimed: Claimed, limit: int, share: int, more: Callable[[int], int]
    ) -> Claim:
        if claimed.found == limit and (next_limit := more(limit)) > 0:
            asked = asyncio.create_task(self._session.ask(agent, next_limit))
            self._ahead = _Ahead(agent.name, next_limit, share, asked)
            await asyncio.sleep(0)  # it is sent before the rows of this one are read
        deliveries = await self._session.read(claimed)
        self._held.add(deliveries)
        # Leases are prolonged from now on, and the next time may be nearly a whole one away.
        stale = time.monotonic() > claimed.asked_at + self._session.lease / 3
        return Claim(deliveries, limit, share, stale)
