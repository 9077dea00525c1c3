"""Ctrl-C in the middle of work: between two small pieces of it, never inside one; or so that all is put away."""

import logging
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self


class Interruption:
    """Raises KeyboardInterrupt where nothing is half done; in a piece of work only when asked a second time.

    By the handler that was there before, where it has something to say about it. Use it in the main thread, where
    signals arrive.
    """

    def __init__(self) -> None:
        self._busy = False
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The handler that was there before may have taken another's place: from then on it is another's to say.
        if signal.getsignal(signal.SIGINT) == self._ask:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def put_off(self) -> Generator[None]:
        """Do this to its end first. Raises KeyboardInterrupt after it, if somebody asked meanwhile."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._asked:
            self._interrupt(None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self._busy or self._asked:
            self._interrupt(frame)
        self._asked = True

    def _interrupt(self, frame: FrameType | None) -> NoReturn:
        if callable(self._before):
            self._before(signal.SIGINT, frame)
        raise KeyboardInterrupt


@contextmanager
def ended_like_ctrl_c() -> Generator[None]:
    """Raises KeyboardInterrupt at SIGTERM and SIGHUP too, so that what was begun is put away. In the main thread.

    A statement that was cut short cannot be rolled back on its connection, which is closed then: nobody is told so.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    driver = logging.getLogger("psycopg")
    driver.addFilter(_is_no_afterthought)
    try:
        yield
    finally:
        driver.removeFilter(_is_no_afterthought)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_no_afterthought(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("error ignored")
