"""One event on its way to one agent, as a worker holds it."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from wakelog.agents.definition import AgentDefinition
from wakelog.log.event import COLUMNS, Event

COLUMNS_BEFORE_EVENT = ("position", "attempt", "stalled", "lease_until", "timeout", "sequenced_at")
EVENT_FROM = len(COLUMNS_BEFORE_EVENT)
EVENT_UPTO = EVENT_FROM + len(COLUMNS) - 1


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
    def failures(self) -> int:
        """Failed attempts including this one, should it fail."""
        return self.attempt - self.stalled

    @classmethod
    def from_row(cls, agent: AgentDefinition, row: tuple[Any, ...], asked_at: float) -> "Delivery":
        """The delivery of a row of wakelog.claimed, asked for at that time on the monotonic clock."""
        event = Event.from_row((row[0], *row[EVENT_FROM:EVENT_UPTO]))
        return cls(agent, event, row[0], row[1], row[2], asked_at)

    def begin(self) -> None:
        """The handler starts, and its time with it; what blocked others before is no excuse."""
        self.blocked = False
        self.started_at = time.monotonic()

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
        self._deliveries: dict[Delivery, None] = {}
        self._lock = threading.Lock()
        self.made_room = False
        """Whether one has ended whose agent's concurrency may have kept more from being claimed."""
        self.stir = asyncio.Event()
        """Set at that moment, to end the worker's sleep."""

    def add(self, deliveries: list[Delivery]) -> None:
        with self._lock:
            self._deliveries.update(dict.fromkeys(deliveries))

    def drop(self, deliveries: list[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self._deliveries.pop(delivery, None)
        if any(d.agent.finishing_makes_room for d in deliveries):
            self.made_room = True
            self.stir.set()

    def all(self) -> list[Delivery]:
        with self._lock:
            return list(self._deliveries)

    def __len__(self) -> int:
        return len(self._deliveries)
