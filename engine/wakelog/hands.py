"""Processes that are given one piece of work at a time, and tell what came of it in lines of JSON.

They run a module of their own (`python -m`), read work from stdin until it ends, and tell through a pipe of their own,
since stdout may be somebody else's. A Ctrl-C is for the process that started them, which ends them.
"""

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Self

import orjson

_AT_ONCE = 65536


@dataclass(slots=True, eq=False)
class Hand:
    """One of these processes, and what it has in hand."""

    process: "subprocess.Popen[bytes]"
    told: IO[bytes]
    work: Any = None
    rest: bytes = b""
    """The beginning of a line whose end has not come yet."""

    def give(self, work: Any) -> None:
        """Give it something to do; what has just ended is heard of next."""
        self.work = work
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(orjson.dumps(work) + b"\n")
            self.process.stdin.flush()


class Hands:
    """Some of them. All are killed at the end of the block, however that comes."""

    def __init__(self, module: str, told: Any, environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", module, orjson.dumps(told).decode()]
        self._environment = os.environ | environment
        self._busy = selectors.DefaultSelector()
        self._all: list[Hand] = []

    def start(self) -> Hand:
        """One more process."""
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                [*self._command, str(write)],
                stdin=subprocess.PIPE,
                stdout=2,
                pass_fds=[write],
                env=self._environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        # Without a buffer, in which lines would lie that the selector knows nothing of.
        hand = Hand(process, os.fdopen(read, "rb", buffering=0))
        self._all.append(hand)
        self._busy.register(hand.told, selectors.EVENT_READ, hand)
        return hand

    def heard(self) -> Iterator[tuple[Hand, dict[str, Any]]]:
        """What they tell, as it comes, until none is left; nothing ({}) from one that has just ended by itself."""
        while self._busy.get_map():
            for key, _ in self._busy.select():
                hand: Hand = key.data
                if hand not in self._all:
                    continue  # ended over what was heard of another
                came = hand.told.read(_AT_ONCE)
                if not came:
                    yield hand, {}
                    continue
                *lines, hand.rest = (hand.rest + came).split(b"\n")
                for line in lines:
                    yield hand, orjson.loads(line)

    def end(self, hand: Hand) -> None:
        """Let one go that is needed no more; killed where it has something in hand."""
        if hand not in self._all:
            return
        self._all.remove(hand)
        self._busy.unregister(hand.told)
        hand.told.close()
        assert hand.process.stdin is not None
        with suppress(BrokenPipeError):
            hand.process.stdin.close()
        if hand.work is not None:
            hand.process.kill()
        try:
            hand.process.wait(5)
        except subprocess.TimeoutExpired:
            hand.process.kill()
            hand.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hand in list(self._all):
            hand.process.kill()
            self.end(hand)


@contextmanager
def telling() -> Generator[tuple[Any, Callable[[Any], None]]]:
    """In such a process: what it was told at its start, and the function that tells.

    Raises BrokenPipeError from it where nobody listens any more.
    """
    with os.fdopen(int(sys.argv[2]), "wb", buffering=0) as out:

        def tell(what: Any) -> None:
            line = memoryview(orjson.dumps(what, option=orjson.OPT_NON_STR_KEYS) + b"\n")
            while line:
                line = line[out.write(line) :]

        yield orjson.loads(sys.argv[1]), tell
