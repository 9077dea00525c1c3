"""Backoffs, rates and starting points, as a person writes them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput


@dataclass(frozen=True, slots=True)
class Fixed:
    """Wait the same time after every failure: ``delay``, in seconds or as text."""

    delay: Duration = 1
    jitter: float = 0.0

    def rule(self) -> dict[str, object]:
        """As the database reads it (``wakelog.backoff``)."""
        return {"kind": "fixed", "delay": seconds(self.delay), "jitter": self.jitter}


@dataclass(frozen=True, slots=True)
class Exponential:
    """Wait ``delay * 2**(n - 1)`` after the n-th failure, at most ``max``.

    ``jitter`` from 0 to 1 takes off a random part: with 0.5 the wait is between half and all of it.
    """

    delay: Duration = 1
    max: Duration = 300
    jitter: float = 0.0

    def rule(self) -> dict[str, object]:
        """As the database reads it (``wakelog.backoff``)."""
        return {
            "kind": "exponential",
            "delay": seconds(self.delay),
            "max": seconds(self.max),
            "jitter": self.jitter,
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` starts in any ``window`` (seconds, or text such as "1m")."""

    count: int
    window: Duration = 1

    @classmethod
    def of(cls, given: "str | Rate") -> "Rate":
        """A rate as a person writes it: ``"10/s"``, ``"100/m"``, ``"5000/h"``, ``"3/30s"``."""
        if isinstance(given, Rate):
            return given
        count, slash, window = given.partition("/")
        if not slash or not count.strip().isdecimal() or not window.strip():
            raise BadInput(f'expected a rate such as "10/s", "100/m" or "3/30s", found {given!r}')
        window = window.strip()
        return cls(int(count), window if window[0].isdigit() else f"1{window}")

    def rule(self) -> dict[str, object]:
        """As the database reads it."""
        if self.count < 1 or seconds(self.window) <= 0:
            raise BadInput(f"expected a rate of 1 or more in a window above 0 s, found {self}")
        return {"count": self.count, "window": seconds(self.window)}


Backoff = Fixed | Exponential | Callable[[int], Duration]
"""A rule, or a function of the number of failures so far (from 1) that returns the time to wait."""

Start = Literal["now", "beginning"] | int | datetime
"""Where a new agent begins: what is committed from here on, everything, a position, or a moment."""


def start_option(start: Start) -> object:
    """A starting point as the database reads it."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise BadInput(f"expected a start time with a time zone, found {start.isoformat()}")
        return start.isoformat()
    if isinstance(start, int) and not isinstance(start, bool):
        if start < 1:
            raise BadInput(f"expected a start position of 1 or more, found {start}")
        return start
    if start in ("now", "beginning"):
        return start
    raise BadInput(f'expected start to be "now", "beginning", a position or a datetime, found {start!r}')
