"""Connections for handlers: made when a handler first asks for one, kept for the next."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, AsyncTransaction, Connection, Transaction, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_loads

from wakelog.errors import DatabaseUnreachable
from wakelog.postgres import jsonb
from wakelog.postgres.connect import GIVE_UP_ON_US, may_be_cut_off, safe_url, session_defaults
from wakelog.postgres.watched import WatchedConnection

FORGET: LiteralString = """
    reset session authorization;
    reset all;
    select pg_catalog.pg_advisory_unlock_all();
    discard temp;
    unlisten *;
"""
"""What one handler sets is not the next one's: roles, settings, session locks, temporary tables, channels."""


class AsyncHandlerConnection(WatchedConnection):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit."""

    @cached_property
    def workers_own(self) -> AsyncClientCursor[Any]:
        """What the worker commits with, several statements in one round trip."""
        return AsyncClientCursor(self)

    @asynccontextmanager
    async def transaction(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncGenerator[AsyncTransaction]:
        if self.info.transaction_status == TransactionStatus.IDLE and not self.autocommit:
            await self.execute("select")  # psycopg begins before the first statement
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction


class HandlerConnection(Connection[Any]):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit."""

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Generator[Transaction]:
        if self.info.transaction_status == TransactionStatus.IDLE and not self.autocommit:
            self.execute("select")
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction


Any_Connection = AsyncHandlerConnection | HandlerConnection


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
        self._idle_async: list[AsyncHandlerConnection] = []
        self._idle_sync: list[HandlerConnection] = []

    def take_async(self) -> AsyncHandlerConnection:
        """A connection for an async handler."""
        while self._idle_async:
            connection = self._idle_async.pop()
            if not connection.closed and connection.pgconn.status == pq.ConnStatus.OK:
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

        ``forgotten`` says that this has been done, with the commit.
        """
        if isinstance(connection, AsyncHandlerConnection):
            if not forgotten:
                await self._forget_async(connection)
            if not connection.closed:
                self._idle_async.append(connection)
        else:
            if not forgotten:
                await asyncio.to_thread(self._forget_sync, connection)
            if not connection.closed:
                self._idle_sync.append(connection)
        connection.row_factory = tuple_row

    async def close(self) -> None:
        """Close those that are idle."""
        for connection in self._idle_async:
            await connection.close()
        for connection in self._idle_sync:
            connection.close()
        self._idle_async.clear()
        self._idle_sync.clear()

    async def _forget_async(self, connection: AsyncConnection[Any]) -> None:
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                await connection.rollback()
            await connection.set_autocommit(True)
            await connection.execute(self.forget)
            await connection.set_autocommit(False)
        except psycopg.Error:
            await connection.close()

    def _forget_sync(self, connection: Connection[Any]) -> None:
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
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
