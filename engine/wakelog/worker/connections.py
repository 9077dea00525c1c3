"""Connections for handlers: made when a handler first asks for one, kept for the next."""

import asyncio
from typing import LiteralString

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads

from wakelog.errors import DatabaseUnreachable
from wakelog.postgres import jsonb
from wakelog.postgres.connect import GIVE_UP_ON_US, may_be_cut_off, safe_url, session_defaults
from wakelog.worker.handler_connection import (
    KEPT_BEGUN,
    Any_Connection,
    AsyncHandlerConnection,
    HandlerConnection,
)

FORGET: LiteralString = """
    reset session authorization;
    reset all;
    select pg_catalog.pg_advisory_unlock_all();
    discard temp;
    unlisten *;
"""
"""What one handler sets is not the next one's: roles, settings, session locks, temporary tables, channels."""


class HandlerConnections:
    """Idle connections, async and sync. At most one per running handler is ever open.

    A handler asks for its connection with a plain attribute, also where it is async, so one that is not
    there yet is made on the spot, which holds up the event loop for a few milliseconds; a spare is then
    made ready in the background.
    """

    asynchronous: type[AsyncHandlerConnection] = AsyncHandlerConnection
    synchronous: type[HandlerConnection] = HandlerConnection

    def __init__(self, url: str, *, pooled: bool) -> None:
        self._url = url
        self._pooled = pooled
        self.forget: LiteralString = FORGET
        """What makes a connection ready for the next handler."""
        self._prepare_threshold: int | None = None
        self._idle_async: list[AsyncHandlerConnection] = []
        self._idle_sync: list[HandlerConnection] = []
        self._begun: set[AsyncHandlerConnection] = set()
        """Those with a transaction that was begun ahead, idle and lent."""
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def forget_and_begin(self) -> LiteralString:
        """The same, and begins its transaction. In two: statements sent together are one, until they say otherwise."""
        return f"begin; {self.forget} commit; begin;"

    @property
    def idle(self) -> int:
        """How many are kept for the next handlers."""
        return len(self._idle_async) + len(self._idle_sync)

    def begins_ahead(self, connection: AsyncHandlerConnection) -> bool:
        """Whether the next transaction may be begun with the commit of this one."""
        return not self._pooled and connection.as_made

    def take_async(self, since: float = 0.0) -> AsyncHandlerConnection:
        """A connection for an async handler, whose work came at that moment on the monotonic clock."""
        while self._idle_async:
            connection = self._idle_async.pop()
            if connection.lend(since):
                return connection
        connection = self.asynchronous(self._connect())
        connection.pgconn.nonblocking = 1
        self._prepare(connection)
        return connection

    def take_sync(self) -> HandlerConnection:
        """A connection for a sync handler."""
        while self._idle_sync:
            connection = self._idle_sync.pop()
            if not connection.closed and connection.pgconn.status == pq.ConnStatus.OK:
                return connection
        connection = self.synchronous(self._connect())
        self._prepare(connection)
        return connection

    async def give_back(self, connection: Any_Connection, *, forgotten: bool) -> None:
        """Take a connection back: what is open on it is rolled back, what was set on it forgotten.

        ``forgotten`` says that this has been done, with the commit; a transaction may have been begun ahead then.
        """
        if isinstance(connection, AsyncHandlerConnection):
            await self._forget_async(connection, forgotten)
            if not connection.closed:
                self._idle_async.append(connection)
        else:
            if not forgotten:
                await asyncio.to_thread(self._forget_sync, connection)
            if not connection.closed:
                connection.as_it_was_made(self._prepare_threshold)
                self._idle_sync.append(connection)
        if self._closed:
            await self.close()

    def has_begun(self, connection: AsyncHandlerConnection, at: float) -> None:
        """A transaction was begun ahead on this connection, not before that moment on the monotonic clock."""
        connection.has_begun(at)
        self._begun.add(connection)
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy())

    async def close(self) -> None:
        """Close those that are idle, and those that are given back later."""
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.wait([self._tidying])
        for connection in self._idle_async:
            await connection.close()
        for connection in self._idle_sync:
            connection.close()
        self._idle_async.clear()
        self._idle_sync.clear()

    async def _tidy(self) -> None:
        """End the transactions that were begun ahead, and in which nobody has said anything since."""
        while self._begun:
            await asyncio.sleep(KEPT_BEGUN / 2)
            for connection in list(self._begun):
                if connection.is_old:
                    try:
                        await connection.end_unused()
                    except psycopg.Error:
                        await connection.close()
                        self._idle_async = [idle for idle in self._idle_async if idle is not connection]
                if not connection.begun_ahead:
                    self._begun.discard(connection)

    async def _forget_async(self, connection: AsyncHandlerConnection, forgotten: bool) -> None:
        try:
            if connection.said:
                forgotten = False  # by somebody who still has it
                await connection.rollback()
            await connection.as_it_was_made(self._prepare_threshold)
            if not forgotten:
                await connection.set_autocommit(True)
                await connection.execute(self.forget)
                await connection.set_autocommit(False)
        except BaseException as error:
            await connection.close()
            if not isinstance(error, psycopg.Error):
                raise

    def _forget_sync(self, connection: HandlerConnection) -> None:
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
            connection.as_it_was_made(self._prepare_threshold)
            connection.autocommit = True
            connection.execute(self.forget)
            connection.autocommit = False
        except psycopg.Error:
            connection.close()

    def _connect(self) -> pq.abc.PGconn:
        conninfo = make_conninfo(self._url, **session_defaults(self._url, "wakelog handler"))
        pgconn = pq.PGconn.connect(conninfo.encode())
        if pgconn.status != pq.ConnStatus.OK:
            reason = pgconn.get_error_message().strip()
            raise DatabaseUnreachable(f"no connection to {safe_url(self._url)}: {reason}")
        if may_be_cut_off(pgconn):
            self.forget = FORGET + GIVE_UP_ON_US  # resetting all has reset that, too
            pgconn.exec_(GIVE_UP_ON_US.encode())
        return pgconn

    def _prepare(self, connection: Any_Connection) -> None:
        set_json_loads(jsonb.decode, connection)
        if self._pooled:
            connection.prepare_threshold = None
        self._prepare_threshold = connection.prepare_threshold
