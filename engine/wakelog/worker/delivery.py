"""Events on their way to agents, as a worker holds them."""

import asyncio
import heapq
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wakelog.agents.batch import between
from wakelog.agents.definition import AgentDefinition
from wakelog.log.event import Event


@dataclass(slots=True, eq=False)
class Delivery:
    """A claimed delivery. (worker, attempt) fences it in the database; here, its identity does."""

    agent: AgentDefinition
    event: Event
    position: int
    attempt: int
    stalled: int
    claimed_at: float
    """When it was claimed, or a little earlier, on the monotonic clock."""

    @property
    def failures(self) -> int:
        """Failed attempts including this one, should it fail."""
        return self.attempt - self.stalled

    @property
    def last_chance(self) -> bool:
        """Whether it is given up if it stalls once more. It is handed out alone (wakelog.claim_late)."""
        return 0 < self.stalled >= self.agent.max_stalled

    @classmethod
    def from_row(cls, agent: AgentDefinition, row: tuple[Any, ...], asked_at: float) -> "Delivery":
        """The delivery of a row of attempt, stalled and the event, asked for at that time on the monotonic clock."""
        return cls(agent, Event.from_row(row[2:]), row[2], row[0], row[1], asked_at)


@dataclass(slots=True, eq=False)
class Work:
    """What a slot does at a time, one call of a handler: one delivery, or a batch of an agent that takes those."""

    agent: AgentDefinition
    deliveries: list[Delivery]
    """Those that have not come to their end yet."""
    queued_at: float = 0.0
    """When it came into the queue, on the monotonic clock."""
    started_at: float | None = None
    task: "asyncio.Task[Any] | None" = None
    threads: set[int] = field(default_factory=set[int])
    """Idents of the threads its handler or its steps run in."""
    late: bool = False
    """Whether its time limit had passed when the handler ended."""
    blocked: bool = False
    """Whether another handler held the event loop until the watchdog ended that one."""
    pushed: bool = False
    """Whether the watchdog has cancelled it."""
    next_push: float = 0.0
    """When the watchdog may next try to end it."""

    @property
    def where(self) -> str:
        """Its place in the log, as a person is told."""
        return between([delivery.event for delivery in self.deliveries])

    @property
    def attempt(self) -> int:
        """Which attempt it is; of a batch, the highest."""
        return max((delivery.attempt for delivery in self.deliveries), default=0)

    def begin(self) -> float:
        """The handler starts, and its time with it, which is returned; what blocked others before is no excuse."""
        self.blocked = False
        self.started_at = began = time.monotonic()
        return began

    def end(self) -> None:
        """The handler has ended."""
        self.late = self.overdue(time.monotonic()) >= 0
        self.started_at = None

    def push(self) -> None:
        """Cancel the handler, if it still runs. Called in the event loop."""
        if self.started_at is not None and self.task is not None:
            self.pushed = True
            self.task.cancel()

    def overdue(self, now: float) -> float:
        """Seconds since its time limit passed; negative before that and while it has not begun."""
        started_at = self.started_at  # read once: the other thread may end it in between
        return now - started_at - self.agent.timeout if started_at is not None else -1.0


class Held:
    """Everything a worker holds, running or waiting for a slot. Read by the watchdog's thread as well."""

    def __init__(self) -> None:
        self._deliveries: dict[Delivery, float] = {}
        """Each with the moment until which it is sure to be this worker's, on the monotonic clock."""
        self._running: dict[Work, None] = {}
        self._by_agent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.made_room = False
        """Whether one has ended whose agent's concurrency may have kept more from being claimed."""
        self.stir = asyncio.Event()
        """Set at that moment, and where `again_at` has come nearer, to end the worker's sleep."""
        self._again: list[float] = []
        """When what was let go may be claimed again, as a heap."""
        self.eased = asyncio.Event()
        """Set whenever something has ended."""

    def add(self, deliveries: list[Delivery], until: float) -> None:
        """They are this worker's until then, on the monotonic clock."""
        with self._lock:
            self._deliveries.update(dict.fromkeys(deliveries, until))
        self._by_agent.update(delivery.agent.name for delivery in deliveries)

    def drop(self, deliveries: list[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                if delivery in self._deliveries:
                    del self._deliveries[delivery]
                    self._by_agent[delivery.agent.name] -= 1
        if any(d.agent.finishing_makes_room for d in deliveries):
            self.made_room = True
            self.stir.set()
        self.eased.set()

    def prolonged(self, deliveries: list[Delivery], until: float) -> None:
        """The database was asked to prolong these leases, and has answered.

        One that may have run out by then was not prolonged, and one that has come since was not asked for.
        """
        now = time.monotonic()
        with self._lock:
            for delivery in deliveries:
                if self._deliveries.get(delivery, now) > now:
                    self._deliveries[delivery] = until

    def until(self, delivery: Delivery) -> float:
        """Until when it is sure to be this worker's, on the monotonic clock; the past where it is not held."""
        return self._deliveries.get(delivery, -math.inf)

    def again_in(self, seconds: float) -> None:
        """Something was let go that may be claimed again in so many seconds, for which a sleeping worker is to look.

        Called when the database has answered: a look that comes before the time would have to wait for the next one.
        """
        due = time.monotonic() + seconds
        heapq.heappush(self._again, due)
        if self._again[0] == due:
            self.stir.set()

    @property
    def again_at(self) -> float:
        """When the first of that may be claimed again, on the monotonic clock; infinity where there is none."""
        return self._again[0] if self._again else math.inf

    def seen_to(self, now: float) -> None:
        """A look follows, in which what may be claimed again by now is found."""
        while self.again_at <= now:
            heapq.heappop(self._again)

    def all(self) -> list[Delivery]:
        with self._lock:
            return list(self._deliveries)

    def of(self, agent: AgentDefinition) -> int:
        """How many of one agent's deliveries are held, finished ones not yet written among them."""
        return self._by_agent[agent.name]

    def start(self, work: Work) -> None:
        with self._lock:
            self._running[work] = None

    def end(self, work: Work) -> None:
        with self._lock:
            self._running.pop(work, None)
        self.eased.set()

    def running(self) -> list[Work]:
        """What is in a slot."""
        with self._lock:
            return list(self._running)

    @property
    def slots_taken(self) -> int:
        return len(self._running)

    def __contains__(self, delivery: Delivery) -> bool:
        return delivery in self._deliveries

    def __len__(self) -> int:
        return len(self._deliveries)
