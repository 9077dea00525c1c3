"""Durations, moments and places, and how they are printed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from wakelog_cli.moments import Duration, Moment, Place, in_words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("7d", 604800),
        ("45", 45),
        (" 2 h ", 7200),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 parsecs", "1e400s", "9" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a duration"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-27T14:30Z", datetime(2026, 11, 27, 14, 30, tzinfo=UTC)),
        ("2026-11-27T14:30+02:00", datetime(2026, 11, 27, 12, 30, tzinfo=UTC)),
        ("2026-11-27T14:30", datetime(2026, 11, 27, 14, 30).astimezone()),
        ("2026-11-27", datetime(2026, 11, 27).astimezone()),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert Moment().convert(text, None, None) == moment


@pytest.mark.parametrize("text", ["10m", "-10m", "10m ago"])
def test_how_long_ago(text: str) -> None:
    moment = Moment().convert(text, None, None)
    assert timedelta(minutes=10) <= datetime.now(UTC) - moment < timedelta(minutes=11)


@pytest.mark.parametrize(("text", "place"), [("now", "now"), ("beginning", "beginning"), ("812", 812)])
def test_places(text: str, place: Any) -> None:
    assert Place().convert(text, None, None) == place


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "12 ms"),
        (3.44, "3.4 s"),
        (303, "5 min 3 s"),
        (300, "5 min"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
        (-2, "-2.0 s"),
    ],
)
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
