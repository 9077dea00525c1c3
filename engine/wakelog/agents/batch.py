"""What a handler can do that gets a batch: let single events fail, and answer each of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from pydantic import BaseModel

from wakelog.agents.context import Attempt, Bench
from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput
from wakelog.log.event import Event


class BatchContext(Attempt):
    """One attempt at a batch of events. Batch handlers get it as their second argument.

    In async handlers :meth:`extend` is awaited; in sync ones it returns when done.
    """

    __slots__ = ("_mine", "events", "failed")

    def __init__(self, events: list[Event], agent: str, attempt: int, is_async: bool, bench: Bench) -> None:
        super().__init__(between(events), agent, attempt, is_async, bench)
        self.events = events
        """The batch, in the order of the log."""
        self.failed: dict[int | None, tuple[BaseException | str, Duration | None]] = {}
        """By position, why events of it have failed, and when they may be tried again."""
        self._mine = {event.position for event in events}

    @property
    def event(self) -> NoReturn:
        """There is none: a batch has many."""
        raise AttributeError(
            f'agent "{self.agent}" takes batches, where there is no ctx.event; see ctx.events'
        )

    def fail(self, event: Event, error: BaseException | str, retry_after: Duration | None = None) -> None:
        """Let one event of the batch fail, and acknowledge the others when the handler returns.

        It counts as a failed attempt with this error, recorded in a transaction of its own, and waits
        ``retry_after``, or as the agent's backoff says; with a :class:`~wakelog.DoNotRetry` as the error it is
        given up. What was emitted in answer to it is not appended. What was written for it through
        :attr:`connection` is, unless the handler takes it back (``async with ctx.connection.transaction()``);
        where every event of the batch has failed, nothing is committed.

        Raises:
            BadInput: the event is not one of the batch, ``error`` is neither an exception nor text, or
                ``retry_after`` is not a duration.
        """
        self._expect_mine(event)
        if not isinstance(error, BaseException | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"expected an exception or a sentence as the error, found {error!r:.200}")
        if retry_after is not None:
            seconds(retry_after)
        self.failed[event.position] = (error, retry_after)

    def emit(
        self,
        type: str | BaseModel,  # noqa: A002 - the field's name
        payload: Any = None,
        *,
        answers: Event | None = None,
        stream: str | None = None,
        source: str | None = None,
        metadata: dict[str, Any] | None = None,
        key: str | None = None,
        deliver_after: Duration | datetime | None = None,
        private: str | Mapping[str, str] | None = None,
    ) -> None:
        """Add an event to those this attempt answers with; ``answers`` names the event that is answered.

        It is appended when the handler has returned, in the transaction that finishes the batch, with that
        event as its cause and its correlation carried on; if the attempt fails, or that event alone, it is not.
        A repeated attempt emits nothing twice: what answers one event is told apart by ``key``, or else by the
        order of the calls. ``private`` says what of the payload is personal, and about whom, as in
        :func:`wakelog.append`; where a subject was forgotten by then, what answers that event is not appended,
        and its attempt fails (all of the batch, where the handler wrote through :attr:`connection`).

        Raises:
            BadInput: no event of the batch is named, a value cannot be used, a private place is not in the payload,
                or the key was used before for this event in this attempt.
        """
        if answers is None:
            raise BadInput(
                f'agent "{self.agent}" takes batches: expected the event that "{type}" answers, found none; '
                "say ctx.emit(..., answers=event)"
            )
        self._expect_mine(answers)
        self._emit(answers, type, payload, stream, source, metadata, key, deliver_after, private)

    def step(self, *_: Any, **__: Any) -> NoReturn:
        """Not in a batch: what a step returned is remembered for one event."""
        raise BadInput(
            f'agent "{self.agent}" takes batches: expected no ctx.step, which belongs to a single event; '
            "declare the agent without batch= to use steps"
        )

    def _expect_mine(self, event: Event) -> None:
        if not isinstance(event, Event) or event.position not in self._mine:  # pyright: ignore
            raise BadInput(f"expected an event of this batch (one of ctx.events), found {event!r:.200}")


def between(events: Sequence[Event]) -> str:
    """Where in the log these are, for people."""
    if not events:
        return "nowhere"
    first = str(events[0].position)
    return first if len(events) == 1 else f"{first} to {events[-1].position} ({len(events)} events)"
