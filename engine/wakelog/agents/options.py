"""Backoffs, rates and starting points, as a person writes them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput

KEY = re.compile(r"stream|correlation|source|(metadata|payload)(\.[^.]+)+")
"""What names a key of an event; ``wakelog.check_key`` says the same."""


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

    @property
    def spacing(self) -> float:
        """Seconds from one start to the next, where they are spread evenly. Raises BadInput."""
        self.rule()
        return seconds(self.window) / self.count

    def rule(self) -> dict[str, object]:
        """As the database reads it."""
        if self.count < 1 or seconds(self.window) <= 0:
            raise BadInput(f"expected a rate of 1 or more in a window above 0 s, found {self}")
        return {"count": self.count, "window": seconds(self.window)}


Overflow = Literal["refuse", "drop_oldest"]
"""What becomes of more events than an agent may have unfinished."""

Mode = Literal["simple", "throttle", "debounce", "keep_last"]


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Take one event for many: of those with the same value of ``by``, only some are worked on.

    ``by`` is "stream", "correlation", "source", "metadata.<path>" or "payload.<path>"; events without such a value
    are all worked on. By ``mode``:

    - "simple": while one is unfinished, those that come are left out.
    - "throttle": of those that come within ``window`` of one that was worked on, none is; the next opens a new window.
    - "debounce": only the last is, once none has come for ``window``.
    - "keep_last": one at a time; of those that come meanwhile, only the last is worked on afterwards.

    ``window`` is in seconds or text such as "5m"; throttle and debounce need it, the others have none.
    """

    by: str
    mode: Mode = "simple"
    window: Duration | None = None

    def rule(self) -> dict[str, object]:
        """As the database reads it. Raises BadInput."""
        if not KEY.fullmatch(self.by):
            raise BadInput(
                f"expected dedupe by stream, correlation, source, metadata.<path> or payload.<path>, found {self.by!r}"
            )
        if self.mode not in ("simple", "throttle", "debounce", "keep_last"):
            raise BadInput(
                f"expected a dedupe mode of simple, throttle, debounce or keep_last, found {self.mode!r}"
            )
        window = None if self.window is None else seconds(self.window)
        if (self.mode in ("throttle", "debounce")) != (window is not None and window > 0):
            expected = "a window above 0 s" if self.mode in ("throttle", "debounce") else "no window"
            raise BadInput(f"expected {expected} for dedupe mode {self.mode}, found {self.window!r}")
        return {"by": self.by, "mode": self.mode, "window": window}


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
