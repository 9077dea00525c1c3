"""Sync handlers, and the sync steps of async ones, in threads that can be ended where they end at all."""

import asyncio
import concurrent.futures
import ctypes
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from wakelog.worker.delivery import Work

GRACE = 1.0
"""Seconds a thread has to end after its time limit, before it is left behind."""


class TimeLimitExceeded(BaseException):
    """Raised inside a handler by the watchdog. Not an Exception, so that handlers do not swallow it."""


class HandlerThreads:
    """A worker session's threads for so many handlers. ``replace_me`` is told why where one does not end."""

    def __init__(self, handlers: int, replace_me: Callable[[str], None]) -> None:
        # Twice as many: one that was left behind keeps nobody waiting until the process is replaced.
        self._pool = concurrent.futures.ThreadPoolExecutor(2 * handlers, "wakelog-handler")
        self._replace_me = replace_me

    async def call(
        self, work: Work, interrupt: Callable[[], Awaitable[None]], fn: Callable[..., Any],
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Call a function for ``work`` in a thread that the watchdog can reach. ``interrupt`` ends what it waits for,
        where this is cancelled.
        """

        def call() -> Any:
            ident = threading.get_ident()
            work.threads.add(ident)
            try:
                return fn(*args, **kwargs)
            finally:
                work.threads.discard(ident)
                # One raised too late would end the pool's thread instead.
                raise_in_thread(ident, None)

        future = self._pool.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and work.threads:
                await interrupt()
                ending = asyncio.wrap_future(future)
                ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                await asyncio.wait([ending], timeout=GRACE)
                if work.threads:
                    self._replace_me(f'a thread of agent "{work.agent.name}" does not end')
            raise

    def close(self) -> None:
        """Begin nothing more; threads that still run are left to themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def raise_in_thread(ident: int, error: type[BaseException] | None) -> None:
    """Have CPython raise ``error`` in a thread at its next bytecode; None takes back what is pending."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(error) if error is not None else None
    )
