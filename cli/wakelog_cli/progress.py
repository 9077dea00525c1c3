"""Progress of long work, on stderr: how many, at which rate, and when it will be done."""

import sys
import time
from types import TracebackType
from typing import Any, Self


class Progress:
    """A bar where a person looks on, and nothing elsewhere; counts either way."""

    def __init__(self, doing: str, things: str, size: int | None) -> None:
        """`size` is how many units `advance` will come to, None where nobody knows."""
        self.count = 0
        self._doing = doing
        self._things = things
        self._size = size
        self._done = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._shown = 0.0
        self._bar: Any = None

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / max(self.seconds, 1e-6)

    def advance(self, units: int, things: int) -> None:
        """So many units further, which were so many things."""
        self._done += units
        self.count += things
        now = time.monotonic()
        if self._bar is not None and now - self._shown > 0.1:
            self._shown = now
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=self._description())

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            from wakelog_cli.output import console

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                console=console(stderr=True),
            )
            self._bar.add_task(self._description(), total=self._size)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=self._description())
            self._bar.stop()

    def _description(self) -> str:
        left = ""
        if self._size and self._done:
            end = time.time() + self.seconds * (self._size - self._done) / self._done
            left = f", done at {time.strftime('%H:%M:%S', time.localtime(end))}"
        return f"{self._doing} {self.count:,} {self._things} ({self.rate:,.0f}/s{left})"
