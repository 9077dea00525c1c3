"""A time limit is kept from the handler's beginning, and costs a timer only where the handler waits for something."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from wakelog.worker.time_limit import within


def run(work: Any, seconds: float = 5.0, *, timers: list[float] | None = None) -> Any:
    """Await it within the limit, and note in how many seconds the timers end that were set meanwhile."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        at = loop.call_at

        def noting(when: float, *arguments: Any, **options: Any) -> Any:
            if timers is not None:
                timers.append(when - loop.time())
            return at(when, *arguments, **options)

        loop.call_at = noting  # type: ignore[method-assign]
        try:
            return await within(seconds, work)
        finally:
            loop.call_at = at  # type: ignore[method-assign]

    return asyncio.run(main())


async def answer(value: int) -> int:
    return value


async def waits(*pauses: float) -> list[float]:
    done: list[float] = []
    for pause in pauses:
        await asyncio.sleep(pause)
        done.append(pause)
    return done


def test_what_waits_for_nothing_sets_no_timer() -> None:
    timers: list[float] = []
    assert run(answer(3), timers=timers) == 3
    assert timers == []


def test_what_waits_goes_on_where_it_was() -> None:
    assert run(waits(0, 0.01, 0, 0.01)) == [0, 0.01, 0, 0.01]


def test_what_waits_for_too_long_ends() -> None:
    with pytest.raises(TimeoutError):
        run(waits(60), 0.01)


def test_the_time_before_the_first_wait_counts() -> None:
    async def blocks() -> None:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        await asyncio.sleep(60)

    timers: list[float] = []
    with pytest.raises(TimeoutError):
        run(blocks(), 0.02, timers=timers)
    assert all(timer > 50 for timer in timers)  # those of the handler; the limit is over already


def test_it_may_catch_what_ends_it_and_clean_up() -> None:
    cleaned: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(TimeoutError):
        run(careful(), 0.01)
    assert cleaned == ["up"]


def test_its_errors_are_its_own_before_and_after_it_waits() -> None:
    async def fails(pause: float | None) -> None:
        if pause is not None:
            await asyncio.sleep(pause)
        raise LookupError("mine")

    for pause in (None, 0, 0.001):
        with pytest.raises(LookupError, match="mine"):
            run(fails(pause))


def test_it_runs_in_the_task_that_awaits_it() -> None:
    async def tasks() -> list[Any]:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        return [first, asyncio.current_task()]

    first, second = run(tasks())
    assert first is second


def test_whoever_cancels_it_cancels_what_it_waits_for() -> None:
    async def main() -> None:
        task = asyncio.create_task(within(60, waits(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_anything_that_can_be_awaited_is() -> None:
    class Later(Awaitable[int]):
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 7

    assert run(Later()) == 7
