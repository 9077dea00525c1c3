"""What a handler can do besides returning: emit, remember steps, write in the transaction that finishes."""

import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Protocol

from psycopg import AsyncConnection, Connection
from pydantic import BaseModel

from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput
from wakelog.log.event import Event, NewEvent
from wakelog.log.values import json_text
from wakelog.postgres import jsonb
from wakelog.privacy.fields import expect_places

_OUTCOMES = ("completed", "failed")
"""The keys of the events that tell a delivery's outcome."""


class Bench(Protocol):
    """Where a handler works: what the worker lends it for one attempt."""

    def connection(self) -> "AsyncConnection[Any] | Connection[Any]": ...
    async def finished_steps(self) -> dict[str, Any]: ...
    async def record_step(self, name: str, result: str) -> Any: ...
    async def run_in_thread(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...
    async def extend(self, lease: float) -> None: ...
    def wait(self, work: Coroutine[Any, Any, Any]) -> Any: ...


class Attempt:
    """What every handler can do, whether it gets one event or a batch."""

    __slots__ = ("_bench", "_is_async", "_keys", "_log", "_where", "agent", "attempt", "emitted")

    def __init__(self, where: object, agent: str, attempt: int, is_async: bool, bench: Bench) -> None:
        self.agent = agent
        self.attempt = attempt
        """Which try this is, from 1. Work given back does not count. Of a batch, the highest."""
        self.emitted: list[dict[str, Any]] = []
        self._bench = bench
        self._is_async = is_async
        self._where = where
        self._keys: dict[int | None, set[str]] = {}
        """By position of the event answered, the keys of what was emitted."""
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def connection(self) -> Any:
        """A psycopg connection inside the transaction that finishes this event, or this batch.

        An AsyncConnection in async handlers, a Connection in sync ones. What is written through it is
        committed together with the acknowledgement and the emitted events, or not at all, so it happens
        exactly once. Do not commit or roll back yourself.
        """
        return self._bench.connection()

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger that names the agent, the event and the attempt."""
        if self._log is None:
            self._log = _DeliveryLog(
                logging.getLogger(f"wakelog.agent.{self.agent}"),
                {"agent": self.agent, "position": self._where, "attempt": self.attempt},
            )
        return self._log

    def extend(self, lease: Duration) -> Any:
        """Hold this event, or all of this batch, for ``lease`` from now, whatever the worker's heartbeat does.

        Needed only in work that stops the whole process for long; the time limit stays as it is.

        Raises:
            LeaseLost: another worker has taken over.
        """
        extended = self._bench.extend(seconds(lease))
        return extended if self._is_async else self._bench.wait(extended)

    def _emit(
        self, event: Event, type_: str | BaseModel, payload: Any, stream: str | None, source: str | None,
        metadata: dict[str, Any] | None, key: str | None, deliver_after: Duration | datetime | None,
        private: str | Mapping[str, str] | None,
    ) -> None:  # fmt: skip
        keys = self._keys.setdefault(event.position, set())
        told_apart_by = key if key is not None else str(len(keys))
        said = {"stream": stream, "source": source or "", "metadata": metadata}
        new = NewEvent.of({
            "type": type_, "payload": payload, "idempotency_key": told_apart_by, "deliver_after": deliver_after,
            "private": private, **said,
        })  # fmt: skip
        sent: Any = {} if new.payload is None else new.payload
        written = json_text("payload", sent)
        json_text("metadata", metadata)
        hidden: dict[str, Any] = {}
        if new.private is not None:
            sent = jsonb.decode(written)
            expect_places(sent, new.private)
            hidden = {"private": new.private}
        if told_apart_by in _OUTCOMES or told_apart_by in keys:
            raise BadInput(f'expected a key of its own for each event, found "{told_apart_by}" again')
        keys.add(told_apart_by)
        self.emitted.append({
            "position": event.position,
            "key": told_apart_by,
            "type": new.type,
            "payload": sent,
            "schema_version": new.written_in,
            **said,
            "source": source,
            "deliver_after": new.deliver_after and new.deliver_after.isoformat(),
            **hidden,
        })  # fmt: skip


class Context(Attempt):
    """One attempt at one event. Handlers get it as their second argument.

    In async handlers :meth:`step` and :meth:`extend` are awaited; in sync ones they return when done.
    """

    __slots__ = ("_finished", "_used", "event")

    def __init__(self, event: Event, agent: str, attempt: int, is_async: bool, bench: Bench) -> None:
        super().__init__(event.position, agent, attempt, is_async, bench)
        self.event = event
        self._finished: dict[str, Any] | None = None
        self._used: set[str] = set()

    def emit(
        self,
        type: str | BaseModel,  # noqa: A002 - the field's name
        payload: Any = None,
        *,
        stream: str | None = None,
        source: str | None = None,
        metadata: dict[str, Any] | None = None,
        key: str | None = None,
        deliver_after: Duration | datetime | None = None,
        private: str | Mapping[str, str] | None = None,
    ) -> None:
        """Add an event to those this attempt answers with: a type and its payload, or the instance of a declared model.

        It is appended when the handler has returned, in the transaction that finishes the event, with
        this event as its cause and its correlation carried on; if the attempt fails, it is not. A repeated
        attempt emits nothing twice: events are told apart by ``key``, or else by the order of the calls. No
        agent is given it before ``deliver_after``, a duration from now or a moment. ``private`` says what of the
        payload is personal, and about whom, as in :func:`wakelog.append`: it is encrypted when the event is
        appended; where a subject was forgotten by then, the attempt fails.

        Raises:
            BadInput: a value cannot be used, a private place is not in the payload, or the key was used before in
                this attempt.
        """
        self._emit(self.event, type, payload, stream, source, metadata, key, deliver_after, private)

    def step(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a piece of work once: call ``fn`` and store its result before going on.

        After a crash or a failure the handler runs again, and a step that has finished returns what it
        returned, without calling ``fn``. A crash between the end of ``fn`` and the storing repeats it.
        What comes back is the result as JSON gives it back, the first time too.

        ``fn`` may be async in async handlers; a sync one is run in a thread there.

        Raises:
            BadInput: the name was used before in this attempt, or the result cannot be written as JSON.
            LeaseLost: another worker has taken over; nothing was stored.
        """
        if self._is_async:
            return self._step(name, fn, args, kwargs)
        if name in self._bench.wait(self._finished_steps(name)):
            return (self._finished or {})[name]
        return self._bench.wait(self._bench.record_step(name, _result(name, fn(*args, **kwargs))))

    async def _step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        finished = await self._finished_steps(name)
        if name in finished:
            return finished[name]
        if inspect.iscoroutinefunction(fn):
            result = await fn(*args, **kwargs)
        else:
            result = await self._bench.run_in_thread(fn, *args, **kwargs)
        return await self._bench.record_step(name, _result(name, result))

    async def _finished_steps(self, name: str) -> dict[str, Any]:
        if name in self._used:
            raise BadInput(
                f'step "{name}" was used before in this attempt; give every step a name of its own'
            )
        self._used.add(name)
        if self._finished is None:
            self._finished = await self._bench.finished_steps()
        return self._finished


def _result(step: str, value: Any) -> str:
    return json_text(f'the result of step "{step}"', value)


class _DeliveryLog(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = self.extra or {}
        return f"[{extra['agent']} at {extra['position']}, attempt {extra['attempt']}] {msg}", kwargs
