"""Durations, backoffs and starting points, as a person writes them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from wakelog.errors import BadInput

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

Duration = float | int | str | timedelta
"""Seconds, a timedelta, or text such as ``"90s"``, ``"5m"``, ``"1h30m"``, ``"250ms"``."""


def seconds(duration: Duration) -> float:
    """How many seconds a duration is.

    Raises BadInput for what is not a duration, and for negative and endless ones.
    """
    expected = 'expected a duration such as 30, "90s", "5m" or "1h30m"'
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        text = duration.strip()
        matches = list(_DURATION.finditer(text))
        if not matches or "".join(match.group(0) for match in matches).replace(" ", "") != text.replace(
            " ", ""
        ):
            raise BadInput(f"{expected}, found {duration!r}")
        value = sum(float(m["number"]) * _SECONDS[m["unit"] or "s"] for m in matches)
    elif isinstance(duration, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        value = float(duration)
    else:
        raise BadInput(f"{expected}, found {duration!r}")
    if not 0 <= value < math.inf:
        raise BadInput(f"expected a duration of 0 seconds or more, found {duration!r}")
    return value


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
