"""What an agent is: a name, a handler, and how it wants to be treated."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wakelog.agents.options import (
    KEY,
    Backoff,
    Dedupe,
    Exponential,
    Fixed,
    Overflow,
    Rate,
    Start,
    start_option,
)
from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput

Handler = Callable[..., Awaitable[Any]] | Callable[..., Any]

LARGEST_BATCH = 10000

_NAME = re.compile(r"[A-Za-z0-9_:=-]+(\.[A-Za-z0-9_:=-]+)*")
_PATTERN_WORD = re.compile(r"[^\s.*#]+|\*|#")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDefinition:
    """One agent, checked. Made by :meth:`wakelog.Wakelog.agent`."""

    name: str
    handler: Handler
    is_async: bool
    types: tuple[str, ...]
    sources: tuple[str, ...] | None
    metadata: Mapping[str, Any] | None
    where: str | None
    timeout: float
    max_attempts: int
    max_stalled: int
    backoff: Backoff
    concurrency: int | None
    ordered_by: str | None
    rate: Rate | None
    expires: float | None
    dedupe: Dedupe | None
    capacity: int | None
    overflow: Overflow
    start: Start
    history: bool
    batch: int | None = None
    """At most so many events to a call of the handler, as a list; None for one at a time, as itself."""

    @property
    def finishing_makes_room(self) -> bool:
        """Whether a finished delivery may be what the next one has waited for."""
        return (
            self.concurrency is not None
            or self.ordered_by is not None
            or self.rate is not None
            or self.dedupe is not None
        )

    def options(self) -> dict[str, object]:
        """As the database reads them (``wakelog.register_agent``)."""
        rule = self.backoff if isinstance(self.backoff, Fixed | Exponential) else Exponential()
        return {
            "types": list(self.types),
            "sources": list(self.sources) if self.sources is not None else None,
            "metadata": dict(self.metadata) if self.metadata is not None else None,
            "payload_path": self.where,
            "timeout": self.timeout,
            "max_attempts": self.max_attempts,
            "max_stalled": self.max_stalled,
            "backoff": rule.rule(),
            "concurrency": self.concurrency,
            "ordered_by": self.ordered_by,
            "rate": self.rate.rule() if self.rate is not None else None,
            "expires": self.expires,
            "capacity": self.capacity,
            "overflow": self.overflow,
            "dedupe": self.dedupe.rule() if self.dedupe is not None else None,
            "history": self.history,
            "start": start_option(self.start),
        }

    def retry_in(self, failures: int) -> float | None:
        """Seconds to wait after the n-th failure where a function says so; None leaves it to the rule."""
        return seconds(self.backoff(failures)) if callable(self.backoff) else None


@dataclass(frozen=True, slots=True)
class Family:
    """What is declared of the types that begin with these words."""

    name: str
    types: tuple[str, ...] | None
    must_match: bool


def define(
    name: str,
    handler: Handler,
    *,
    on: str | Sequence[str],
    source: str | Sequence[str] | None,
    metadata: Mapping[str, Any] | None,
    where: str | None,
    timeout: Duration,
    max_attempts: int,
    max_stalled: int,
    backoff: Backoff,
    concurrency: int | None,
    ordered_by: str | None,
    rate: str | Rate | None,
    expires: Duration | None,
    dedupe: Dedupe | None,
    capacity: int | None,
    overflow: Overflow,
    start: Start,
    history: bool,
    batch: int | None,
) -> AgentDefinition:
    """Check what was said of an agent; BadInput names the agent, what was expected and what was found."""

    def expect(held: bool, expected: str, found: object) -> None:
        if not held:
            raise BadInput(f'agent "{name}": expected {expected}, found {found!r}')

    expect(bool(_NAME.fullmatch(name)) and len(name.encode()) <= 200,
           "a name of dotted words (letters, digits, _ : = -)", name)  # fmt: skip
    types, sources = _patterns(on), None if source is None else _patterns(source)
    expect(_all_text(types), "text or a list of texts in on=", on)
    expect(_all_text(sources or ()), "text or a list of texts in source=", source)
    expect(bool(types), "at least one type pattern in on=", on)
    expect(sources != (), "at least one pattern in source=, or None", source)
    for pattern in types:
        words_fit = all(_PATTERN_WORD.fullmatch(word) for word in pattern.split("."))
        expect(words_fit, 'type patterns of dotted words, "*" (one word) and "#" (any number)', pattern)
    expect(metadata is None or _is_a(Mapping, metadata), "a mapping in metadata=", metadata)
    expect(where is None or _is_a(str, where), "a jsonpath predicate as text in where=", where)
    expect(_at_least(1, max_attempts), "max_attempts of 1 or more", max_attempts)
    expect(_at_least(0, max_stalled), "max_stalled of 0 or more", max_stalled)
    expect(concurrency is None or _at_least(1, concurrency), "concurrency of 1 or more, or None", concurrency)
    expect(ordered_by is None or (_is_a(str, ordered_by) and bool(KEY.fullmatch(ordered_by))),
           "ordered_by stream, correlation, source, metadata.<path> or payload.<path>", ordered_by)  # fmt: skip
    expect(isinstance(backoff, Fixed | Exponential) or callable(backoff),
           "a backoff of Fixed, Exponential or a function", backoff)  # fmt: skip
    expect(dedupe is None or _is_a(Dedupe, dedupe), "a Dedupe, or None", dedupe)
    expect(dedupe is None or ordered_by is None, "ordered_by or dedupe, not both", ordered_by)
    expect(capacity is None or _at_least(1, capacity), "capacity of 1 or more, or None", capacity)
    expect(overflow in ("refuse", "drop_oldest"), 'overflow "refuse" or "drop_oldest"', overflow)
    expect(batch is None or (_at_least(1, batch) and batch <= LARGEST_BATCH and batch is not True),
           f"a batch of 1 to {LARGEST_BATCH} events, or None", batch)  # fmt: skip
    expect(callable(handler), "a function as the handler", handler)
    try:
        limit = seconds(timeout)
        paced = None if rate is None else Rate.of(rate)
        longest = None if expires is None else seconds(expires)
    except BadInput as error:
        raise BadInput(f'agent "{name}": {error}') from None
    expect(longest is None or longest > 0, "expires of more than 0 seconds, or None", expires)
    expect(limit > 0, "a timeout greater than 0 seconds", timeout)
    definition = AgentDefinition(
        name=name, handler=handler, is_async=inspect.iscoroutinefunction(handler), types=types,
        sources=sources, metadata=metadata, where=where, timeout=limit, max_attempts=max_attempts,
        max_stalled=max_stalled, backoff=backoff, concurrency=concurrency, ordered_by=ordered_by,
        rate=paced, expires=longest, dedupe=dedupe, capacity=capacity, overflow=overflow, start=start,
        history=history, batch=batch,
    )  # fmt: skip
    try:
        definition.options()
    except BadInput as error:
        raise BadInput(f'agent "{name}": {error}') from None
    return definition


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    # Anything else is kept as it is, for the check that says what was found.
    return tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)  # pyright: ignore


def _all_text(found: Sequence[object]) -> bool:
    return all(isinstance(one, str) for one in found)


def _is_a(kind: type, found: object) -> bool:
    return isinstance(found, kind)


def _at_least(least: int, found: object) -> bool:
    return isinstance(found, int) and found >= least
