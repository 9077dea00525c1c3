"""A time limit that costs nothing where there is nothing to wait for."""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], began: float | None = None) -> T:
    """Await ``work`` for that long at most; the timer is set when it waits for something for the first time.

    ``began`` is when the time began, on the monotonic clock, if that was before this.

    A handler that does without is not charged for one: that would be a sixth of all it takes.

    Raises TimeoutError, and whatever ``work`` raises.
    """
    started_at = time.monotonic() if began is None else began
    if not isinstance(work, CoroutineType):
        async with asyncio.timeout(seconds):
            return await work
    coroutine = cast("Coroutine[Any, Any, T]", work)
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        return end.value
    async with asyncio.timeout(max(seconds - (time.monotonic() - started_at), 0.0)):
        return await _Begun(coroutine, waits_for)


class _Begun(Awaitable[T]):
    """A coroutine that has been sent its first None, and what it waits for since."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(answer)
        except StopIteration as end:
            return end.value
