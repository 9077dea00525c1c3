"""A connection for one kind of statement, one at a time, made again whenever it breaks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection

from wakelog.errors import WakelogError, one_line, translate
from wakelog.worker.session import open_connection

log = logging.getLogger("wakelog.worker")

T = TypeVar("T")


class Lane:
    """What waits in one lane never holds up another. ``lock_timeout`` is in milliseconds, 0 for none."""

    def __init__(self, url: str, *, pooled: bool, lock_timeout: int = 0) -> None:
        self._url = url
        self._pooled = pooled
        self._lock_timeout = lock_timeout
        self._connection: AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def rows(self, query: LiteralString, parameters: list[Any]) -> list[tuple[Any, ...]]:
        """Ask, and ask again on a new connection for as long as connections break.

        Raises:
            WakelogError: the database refused, for one of our own reasons.
            psycopg.Error: it refused for another.
        """

        async def ask(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            return await (await connection.execute(query, parameters)).fetchall()

        return await self._say(ask)

    async def _say(self, talk: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        async with self._turn:
            pause = 0.1
            while True:
                try:
                    try:
                        connection = await self._open()
                    except WakelogError as error:  # no connection to be had
                        log.warning("trying again: %s", error)
                    else:
                        return await talk(connection)
                except psycopg.OperationalError as error:
                    if not worth_another_try(error, self._connection):
                        raise translate(error) or error from None
                    log.warning("trying again: %s", one_line(error))
                except psycopg.Error as error:
                    raise translate(error) or error from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def transaction(self, talk: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Say several things in one transaction, and all of it again on a new connection as in `rows`. Raises as it."""

        async def in_one(connection: AsyncConnection[Any]) -> T:
            async with connection.transaction():
                return await talk(connection)

        return await self._say(in_one)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await open_connection(self._url, pooled=self._pooled)
            if self._lock_timeout and not self._pooled:
                await self._connection.execute(
                    "select set_config('lock_timeout', %s, false)", [str(self._lock_timeout)]
                )
        return self._connection


def worth_another_try(error: psycopg.OperationalError, connection: AsyncConnection[Any] | None) -> bool:
    """Whether the connection or the server is to blame, and not what was asked."""
    if connection is None or connection.closed or error.sqlstate is None:
        return True
    # Connection exceptions; deadlock and serialization; operator intervention (shutdown, crash, start-up).
    return error.sqlstate[:2] in ("08", "40", "57")
