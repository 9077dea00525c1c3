"""What an agent is: a name, a handler, and how it wants to be treated."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wakelog.agents.options import Backoff, Duration, Exponential, Fixed, Start, seconds, start_option
from wakelog.errors import BadInput

Handler = Callable[..., Awaitable[Any]] | Callable[..., Any]

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
    start: Start
    history: bool

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
            "history": self.history,
            "start": start_option(self.start),
        }

    def retry_in(self, failures: int) -> float | None:
        """Seconds to wait after the n-th failure where a function says so; None leaves it to the rule."""
        return seconds(self.backoff(failures)) if callable(self.backoff) else None


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
    start: Start,
    history: bool,
) -> AgentDefinition:
    """Check what was said of an agent; BadInput names the agent, what was expected and what was found."""

    def expect(held: bool, expected: str, found: object) -> None:
        if not held:
            raise BadInput(f'agent "{name}": expected {expected}, found {found!r}')

    expect(bool(_NAME.fullmatch(name)) and len(name.encode()) <= 200,
           "a name of dotted words (letters, digits, _ : = -)", name)  # fmt: skip
    types = _patterns(on)
    sources = None if source is None else _patterns(source)
    expect(bool(types), "at least one type pattern in on=", on)
    for pattern in types:
        words_fit = all(_PATTERN_WORD.fullmatch(word) for word in pattern.split("."))
        expect(words_fit, 'type patterns of dotted words, "*" (one word) and "#" (any number)', pattern)
    expect(max_attempts > 0, "max_attempts of 1 or more", max_attempts)
    expect(max_stalled >= 0, "max_stalled of 0 or more", max_stalled)
    expect(concurrency is None or concurrency > 0, "concurrency of 1 or more, or None", concurrency)
    limit = seconds(timeout)
    expect(limit > 0, "a timeout greater than 0 seconds", timeout)
    expect(callable(handler), "a function as the handler", handler)
    definition = AgentDefinition(
        name=name, handler=handler, is_async=inspect.iscoroutinefunction(handler), types=types,
        sources=sources, metadata=metadata, where=where, timeout=limit, max_attempts=max_attempts,
        max_stalled=max_stalled, backoff=backoff, concurrency=concurrency, start=start, history=history,
    )  # fmt: skip
    definition.options()
    return definition


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
