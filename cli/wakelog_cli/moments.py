"""Durations, moments and places in the log, as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click

Start = Literal["now", "beginning"] | int | datetime

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?")


class Duration(click.ParamType[timedelta]):
    """`30s`, `10m`, `2h`, `1.5d`; a bare number is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _duration(str(value))
        if found is None:
            self.fail(f"expected a duration such as 500ms, 30s, 10m, 2h or 7d, found {value!r}", param, ctx)
        return found


class Moment(click.ParamType[datetime]):
    """ISO 8601 (local time unless it says otherwise), or how long ago: `10m`, `2h`, `30d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        found = _moment(str(value))
        if found is None:
            self.fail(
                f"expected a time such as 2026-11-27T14:30, 2026-11-27, or how long ago it was, such as 10m or 30d; "
                f"found {value!r}",
                param,
                ctx,
            )
        return found


class Later(click.ParamType[datetime]):
    """How long from now: `5m`, `24h`; or a moment in ISO 8601 (local time unless it says otherwise)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        length = _duration(text)
        try:
            return (
                datetime.now(UTC) + length
                if length is not None
                else datetime.fromisoformat(text).astimezone()
            )
        except (ValueError, OverflowError):
            self.fail(
                f"expected how long from now, such as 90s or 24h, or a time such as 2026-12-01T09:00; found {value!r}",
                param,
                ctx,
            )


class Place(click.ParamType[Start]):
    """Somewhere in the log: `now`, `beginning`, a position, or a moment."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Start:
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text == "now" or text == "beginning":
            return text
        if re.fullmatch(r"\d{1,18}", text):
            return int(text)
        found = _moment(text)
        if found is None:
            self.fail(
                "expected now, beginning, a position such as 812, a time such as 2026-11-27T14:30, or how long ago "
                f"it was, such as 10m; found {value!r}",
                param,
                ctx,
            )
        return found


def _duration(text: str) -> timedelta | None:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return float(found[1]) * _UNITS[found[2] or "s"]
    except OverflowError:
        return None


def _moment(text: str) -> datetime | None:
    text = text.strip()
    if text == "now":
        return datetime.now(UTC)
    # A bare number would be a position to some and seconds to others: not a moment.
    ago = _duration(text.removeprefix("-").removesuffix(" ago")) if not text.lstrip("-").isdigit() else None
    try:
        if ago is not None:
            return datetime.now(UTC) - ago
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def in_words(length: timedelta) -> str:
    """A duration for people, two units at most: `12 ms`, `3.4 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = length.total_seconds()
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{sign}{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return sign + _two((days, "d"), (hours, "h"))
    if hours:
        return sign + _two((hours, "h"), (minutes, "min"))
    return sign + _two((minutes, "min"), (rest, "s"))


def _two(larger: tuple[int, str], smaller: tuple[int, str]) -> str:
    return " ".join(f"{number} {unit}" for number, unit in (larger, smaller) if number)


def clock_time(moment: datetime) -> str:
    """A moment for people, in local time: the time alone if it was today."""
    local = moment.astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
