from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wakelog.agents.options import Exponential, Fixed, seconds, start_option
from wakelog.errors import BadInput


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (30, 30.0),
        (0.25, 0.25),
        (0, 0.0),
        ("30", 30.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("5 m", 300.0),
        (" 5m ", 300.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("1w", 604800.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_means_so_many_seconds(written: Any, meant: float) -> None:
    assert seconds(written) == pytest.approx(meant)


@pytest.mark.parametrize(
    "written",
    ["", " ", "soon", "5 minutes", "5x", "m", "-5s", "5m!", "1e3", -1, timedelta(seconds=-1),
     float("nan"), float("inf"), None, [5]],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_was_found(written: Any) -> None:
    with pytest.raises(BadInput) as refused:
        seconds(written)
    assert str(refused.value).startswith("expected a duration")
    assert f"found {written!r}" in str(refused.value)


def test_backoffs_reach_the_database_in_seconds() -> None:
    assert Fixed("2m", jitter=0.5).rule() == {"kind": "fixed", "delay": 120.0, "jitter": 0.5}
    assert Exponential("250ms", max="1h").rule() == {
        "kind": "exponential", "delay": 0.25, "max": 3600.0, "jitter": 0.0,
    }  # fmt: skip


def test_a_start_is_now_the_beginning_a_position_or_a_moment() -> None:
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert [start_option(start) for start in ("now", "beginning", 812, moment)] == [
        "now", "beginning", 812, "2026-01-02T03:04:00+00:00",
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["yesterday", "", 0, -3, True, None, 1.5])
def test_any_other_start_is_refused(start: Any) -> None:
    with pytest.raises(BadInput, match=r"expected (a )?start"):
        start_option(start)


def test_a_start_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(BadInput, match="with a time zone, found 2026-01-02"):
        start_option(datetime(2026, 1, 2))  # noqa: DTZ001
