"""An asyncio connection whose socket the event loop watches from one statement to the next.

psycopg registers the socket with the event loop for every wait, with a timer, and takes both back afterwards. That is
two calls of the system, and most of what a short statement costs in Python. Here it stays registered
(docs/decisions/0010-watched-connections.md).

How this stays correct
----------------------
What is watched is a duplicate of the socket, which belongs to this connection alone. libpq closes its own socket
wherever it finds the connection lost, and the next one made gets that number; the duplicate's is nobody else's until
the event loop has forgotten it.

All that is done here is to wait until something can be read. What has come is read by the statement's own task, as
with psycopg. Where anything else is to be waited for (room to send, a limit of time, the end of a statement whose task
is cancelled), and where the watching ends meanwhile, psycopg goes on with the statement from where it is.

A socket that stays readable while no statement waits here (a notification, the end of the server) would wake the event
loop again and again, and is not watched any longer. Once is not enough to tell: what a statement is about to read is
seen by the event loop a second time before it has been read.
"""

import asyncio
import os
import weakref
from collections.abc import Generator
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.pq import ConnStatus
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

_Talk = Generator[Any, Any, T]
"""What psycopg calls PQGen: it yields what it waits for, and is sent what is ready."""


class WatchedConnection(AsyncConnection[Any]):
    """For one event loop at a time, and the thread that it runs in."""

    _watcher: asyncio.AbstractEventLoop | None = None
    _duplicate = -1
    """Of the socket, as long as there is a watcher."""
    _told: "asyncio.Future[bool] | None" = None
    """What a statement waits for: whether there is something to read, or else that nobody watches any more."""
    _unasked = 0
    """How often in a row there was something to read that no statement waited for."""

    async def wait(self, gen: "_Talk[T]", *args: Any, **kwargs: Any) -> T:
        socket = self.pgconn.socket  # raises where the connection is closed, before anything is sent
        if args or kwargs or self._told is not None:
            return await super().wait(gen, *args, **kwargs)
        waits_for: Any = None
        interruption: BaseException | None = None
        try:
            waits_for = next(gen)
            while waits_for == Wait.R and await self._readable(socket):
                waits_for = gen.send(Ready.R)
        except StopIteration as end:
            return end.value
        except (asyncio.CancelledError, KeyboardInterrupt) as interrupted:
            if self.pgconn.status == ConnStatus.BAD:
                raise
            interruption = interrupted
        except BaseException:
            self._unwatch()
            raise
        return await super().wait(_Resumed(gen, waits_for, interruption))

    async def close(self) -> None:
        self._unwatch()
        await super().close()

    def __del__(self, *args: Any) -> None:
        self._unwatch()
        super().__del__(*args)

    def _unwatch(self) -> None:
        """Have the event loop forget the socket; the next statement registers it anew."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            if not watcher.is_closed():
                watcher.remove_reader(self._duplicate)
            os.close(self._duplicate)
        if self._told is not None and not self._told.done():
            self._told.set_result(False)

    async def _readable(self, socket: int) -> bool:
        """Wait until there is something to read; False where that cannot be watched, or is not watched any longer."""
        loop = asyncio.get_running_loop()
        if self._watcher is not loop and not self._watch(loop, socket):
            return False
        self._unasked = 0
        self._told = told = loop.create_future()
        try:
            return await told
        finally:
            self._told = None

    def _watch(self, loop: asyncio.AbstractEventLoop, socket: int) -> bool:
        self._unwatch()
        # Not held by the event loop: one that nobody has any more is to be collected.
        me: weakref.ref[WatchedConnection] = weakref.ref(self)
        try:
            self._duplicate = os.dup(socket)
        except OSError:  # no file descriptor is left
            return False
        try:
            loop.add_reader(self._duplicate, self._tell, me)
        except BaseException:
            os.close(self._duplicate)
            raise
        self._watcher = loop
        return True

    @staticmethod
    def _tell(which: "weakref.ref[WatchedConnection]") -> None:
        connection = which()
        if connection is None:
            return
        told = connection._told
        if told is None:
            connection._unasked += 1
            if connection._unasked > 1:
                connection._unwatch()
        elif not told.done():
            told.set_result(True)


class _Resumed(Generator[Any, Any, T]):
    """A talk that has begun, and what it waits for; where it was interrupted, that comes first."""

    def __init__(self, talk: "_Talk[T]", waits_for: Any, interruption: BaseException | None) -> None:
        self._talk = talk
        self._waits_for = waits_for
        self._interruption = interruption

    def __next__(self) -> Any:
        interruption, self._interruption = self._interruption, None
        if interruption is not None:
            raise interruption
        return self._waits_for

    def send(self, value: Any, /) -> Any:
        return self._talk.send(value)

    def throw(self, *error: Any) -> Any:
        return self._talk.throw(*error)
