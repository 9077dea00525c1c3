"""Durations, as a person writes them."""

import math
import re
from datetime import timedelta

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
