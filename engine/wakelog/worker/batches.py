"""What is claimed for an agent becomes work for slots: events one by one, or in batches.

An event that has failed before, or over which workers have died twice, is handed over alone, so that one bad
event takes others down with it once and not again and again.
"""

from collections.abc import Iterator

from wakelog.agents.definition import AgentDefinition
from wakelog.worker.delivery import Delivery, Held, Work

LARGEST_CLAIM = 5000
"""Deliveries claimed at a time for batches, unless a single one is larger."""
DEATHS = 2
"""So often may workers die over an event before it is handed over alone."""


def grouped(agent: AgentDefinition, deliveries: list[Delivery]) -> list[Work]:
    """One call of the handler each: those to be handed over alone first, the others in the order of the log."""
    if agent.batch is None:
        return [Work(agent, [delivery]) for delivery in deliveries]
    alone = [Work(agent, [delivery]) for delivery in deliveries if _suspect(delivery)]
    together = [delivery for delivery in deliveries if not _suspect(delivery)]
    return alone + [Work(agent, batch) for batch in _cut(together, agent.batch)]


class BatchClaims:
    """How much to claim for agents that take batches. One for a worker's shift."""

    def __init__(self, slots: int, held: Held) -> None:
        self._slots = slots
        self._held = held
        self._careful: set[str] = set()
        """Agents of which the last claim brought events to be handed over alone."""

    def limit(self, agent: AgentDefinition, share: int, besides: int = 0) -> int:
        """Deliveries to claim for as many slots as ``share``; 0 while there are enough that wait to be written.

        ``besides`` are claimed already, and not held yet.

        A handler that is faster than the database would pile them up.
        """
        batch = agent.batch or 1
        if share <= 0 or self._held.of(agent) + besides >= self._slots * batch + 2 * LARGEST_CLAIM:
            return 0
        share = min(share, self._slots)
        return share if agent.name in self._careful else max(batch, min(share * batch, LARGEST_CLAIM))

    def admit(
        self, agent: AgentDefinition, work: list[Work], share: int
    ) -> tuple[list[Work], list[Delivery]]:
        """The work that fits into the share, and the deliveries to be given back, since they take more slots."""
        alone = any(_suspect(delivery) for one in work for delivery in one.deliveries)
        (self._careful.add if alone else self._careful.discard)(agent.name)
        return work[:share], [delivery for one in work[share:] for delivery in one.deliveries]


def _suspect(delivery: Delivery) -> bool:
    return delivery.failures > 1 or delivery.stalled >= DEATHS


def _cut(deliveries: list[Delivery], size: int) -> Iterator[list[Delivery]]:
    ordered = sorted(deliveries, key=lambda delivery: delivery.position)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
