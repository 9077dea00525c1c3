"""An asyncio connection whose socket the event loop watches from one statement to the next.

psycopg registers the socket with the event loop for every wait, with a timer, and takes both back afterwards. That is
two calls of the system, and most of what a short statement costs in Python. Here the socket stays registered, and what
has arrived is read where the loop tells of it, so that a statement's task is resumed once: when it is done
(docs/decisions/0010-watched-connections.md).

How this stays correct
----------------------
The loop must not watch a socket that is closed, whose number the next one may get. It is closed by `close`, and by
libpq where reading or writing fails; both end the watching in the same step. What arrives while nobody waits (a
notification, the end of the server) ends it too: it stays unread, and would wake the loop again and again.

Only what waits for an answer to be read is done here. Everything else is left to psycopg: a limit of time, a send that
has to wait for room, and the end of a statement whose task is cancelled.
"""

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

_Talk = Generator[Any, Any, T]
"""What psycopg calls PQGen: it yields what it waits for, and is sent what is ready."""


class WatchedConnection(AsyncConnection[Any]):
    """For one event loop, and the thread that it runs in."""

    _watcher: asyncio.AbstractEventLoop | None = None
    _watched = -1
    """The socket's number."""
    _talk: "_Talk[Any] | None" = None
    _answer: "asyncio.Future[tuple[bool, Any]] | None" = None
    """Whether the talk has ended, and with what; otherwise what it waits for."""

    async def wait(self, gen: "_Talk[T]", *args: Any, **kwargs: Any) -> T:
        if args or kwargs or self._talk is not None:
            self.unwatch()
            return await super().wait(gen, *args, **kwargs)
        try:
            waits_for = next(gen)
        except StopIteration as end:
            return end.value
        interruption: BaseException | None = None
        if waits_for == Wait.R:
            self._watch()
            self._talk, self._answer = gen, asyncio.get_running_loop().create_future()
            try:
                ended, said = await self._answer
            except asyncio.CancelledError as cancelled:
                if not self._answer.cancelled():  # it came in the same moment
                    if self._answer.exception() is not None or self._answer.result()[0]:
                        raise
                    waits_for = self._answer.result()[1]
                interruption = cancelled
            else:
                if ended:
                    return said
                waits_for = said
            finally:
                self._talk = self._answer = None
        self.unwatch()
        return await super().wait(_Resumed(gen, waits_for, interruption))

    async def close(self) -> None:
        self.unwatch()
        await super().close()

    def unwatch(self) -> None:
        """Have the event loop forget the socket, so that another may be told of it."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and not watcher.is_closed():
            watcher.remove_reader(self._watched)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watcher is not loop:
            self.unwatch()
            self._watcher, self._watched = loop, self.pgconn.socket
            loop.add_reader(self._watched, self._readable)

    def _readable(self) -> None:
        answer = self._answer
        if self._talk is None or answer is None or answer.done():
            self.unwatch()
            return
        try:
            waits_for = self._talk.send(Ready.R)
        except StopIteration as end:
            answer.set_result((True, end.value))
        except BaseException as error:
            self.unwatch()  # libpq may have closed the socket
            answer.set_exception(error)
        else:
            if waits_for != Wait.R:
                answer.set_result((False, waits_for))


class _Resumed(Generator[Any, Any, T]):
    """A talk that has begun, and what it waits for; where it was interrupted, that comes first."""

    def __init__(self, talk: "_Talk[T]", waits_for: Any, interruption: BaseException | None) -> None:
        self._talk = talk
        self._waits_for = waits_for
        self._interruption = interruption
        self._asked = False

    def __next__(self) -> Any:
        interruption, self._interruption = self._interruption, None
        if interruption is not None:
            raise interruption
        return self._waits_for

    def send(self, value: Any, /) -> Any:
        return self._talk.send(value)

    def throw(self, *error: Any) -> Any:
        return self._talk.throw(*error)
