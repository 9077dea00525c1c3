"""What waits for a slot, in order; what has to begin at once, since its agent keeps a pace, comes first."""

import asyncio
import time
from collections import deque

from wakelog.agents.definition import AgentDefinition
from wakelog.worker.delivery import Work


class WorkQueue(asyncio.Queue[Work]):
    """Unbounded. Of asyncio's queue, the three methods are replaced that are there for it."""

    def _init(self, maxsize: int) -> None:
        self._waiting: deque[Work] = deque()
        self._paced: deque[Work] = deque()

    def _put(self, item: Work) -> None:
        item.queued_at = time.monotonic()
        (self._waiting if item.agent.rate is None else self._paced).append(item)

    def _get(self) -> Work:
        return (self._paced or self._waiting).popleft()

    def qsize(self) -> int:
        """How much waits."""
        return len(self._waiting) + len(self._paced)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting and not self._paced

    def next_is_of(self, agent: AgentDefinition) -> bool:
        """Whether something waits, and what comes next is this agent's."""
        waiting = self._paced or self._waiting
        return bool(waiting) and waiting[0].agent is agent

    @property
    def ahead(self) -> int:
        """How much of it has to begin at once."""
        return len(self._paced)
