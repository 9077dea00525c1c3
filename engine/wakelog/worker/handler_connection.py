"""The connections that handlers are lent. Their outermost transaction is the worker's to commit.

How this stays correct
----------------------
A transaction may have been begun ahead: with the commit of the last one, which saves its own round trip, the third of
three that a short transaction takes. It holds nothing, neither a snapshot nor a lock, until something is said in it.
Where it was begun before the work it is lent for had come, or a while ago, it is ended before the handler's first
statement, and another is begun: `now()` is never before the event. So it is where a handler asks for something that no
open transaction can be given: another isolation level, autocommit. One in which nobody says anything is ended as well
(wakelog.worker.connections), lent or not: a handler may do something else for minutes before it says anything.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, TypeVar

import psycopg
from psycopg import (
    AsyncClientCursor,
    AsyncCursor,
    AsyncPipeline,
    AsyncServerCursor,
    AsyncTransaction,
    BaseConnection,
    Connection,
    Cursor,
    IsolationLevel,
    ServerCursor,
    Transaction,
    Xid,
    generators,
)
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.rows import tuple_row

from wakelog.postgres.watched import WatchedConnection

T = TypeVar("T")

KEPT_BEGUN = 0.05
"""Seconds for which a transaction that was begun ahead is used."""
_MAY_BE_IDLE = (TransactionStatus.IDLE, TransactionStatus.ACTIVE)
"""What another task says at the moment may be the end of a transaction."""


def _begins_as_made(connection: BaseConnection[Any]) -> bool:
    return not connection.autocommit and (
        connection.isolation_level is connection.read_only is connection.deferrable is None
    )


class AsyncHandlerConnection(WatchedConnection):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit.

    What is said through its ``pgconn`` is not noticed here, and may be rolled back.
    """

    _begun_at: float | None = None
    """When a transaction was begun ahead, on the monotonic clock; None once something was said in it."""
    _to_begin_anew = False
    """Whether that transaction is not to be used."""

    @cached_property
    def workers_own(self) -> AsyncClientCursor[Any]:
        """What the worker commits with, several statements in one round trip."""
        return AsyncClientCursor(self, row_factory=tuple_row)

    @property
    def begun_ahead(self) -> bool:
        """Whether a transaction is open in which nothing was said."""
        return self._begun_at is not None

    @property
    def is_old(self) -> bool:
        """Whether what was begun ahead has been open for as long as it may be."""
        return self._begun_at is not None and self._begun_at <= time.monotonic() - KEPT_BEGUN

    @property
    def said(self) -> bool:
        """Whether a transaction is open in which something was said."""
        return not self.begun_ahead and self.info.transaction_status != TransactionStatus.IDLE

    @property
    def as_made(self) -> bool:
        """Whether its transactions begin as they do on a new connection."""
        return _begins_as_made(self)

    def has_begun(self, at: float) -> None:
        """A transaction was begun ahead, not before that moment on the monotonic clock."""
        self._begun_at = at

    def lend(self, since: float) -> bool:
        """Lend it for work that came at that moment, on the monotonic clock; False where it has been lost.

        A transaction that has been open for long, since a handler held the event loop, the server may have ended, for
        being idle. The handler to whom it is lent next has nothing to do with that.
        """
        if self._begun_at is not None:
            self._to_begin_anew = self._begun_at < since
            if self.is_old:
                with contextlib.suppress(psycopg.OperationalError):
                    for _ in range(2):  # what the server said last, and that it is gone
                        self.pgconn.consume_input()
        return self.pgconn.status == ConnStatus.OK

    async def end_unused(self) -> None:
        """End what was begun ahead, if nothing was said in it."""
        async with self.lock:
            if self.begun_ahead:
                self._begun_at = None
                await super().wait(_ended(self))

    async def as_it_was_made(self, prepare_threshold: int | None) -> None:
        """Undo what a handler told psycopg of it. Between transactions."""
        self.row_factory = tuple_row
        self.cursor_factory = AsyncCursor
        self.server_cursor_factory = AsyncServerCursor
        self.prepare_threshold = prepare_threshold
        if not self.as_made:
            await self.set_autocommit(False)
            await self.set_isolation_level(None)
            await self.set_read_only(None)
            await self.set_deferrable(None)

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        if self.begun_ahead:
            anew = self._to_begin_anew or self.is_old
            self._begun_at = None
            if anew:
                await super().wait(_ended(self))
        return await super().wait(gen, *args, **kwargs)

    @asynccontextmanager
    async def transaction(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncGenerator[AsyncTransaction]:
        if not self.autocommit and (self.begun_ahead or self.info.transaction_status in _MAY_BE_IDLE):
            await self.execute("select")  # psycopg begins before the first statement
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    # What cannot be asked for, or may not be ended, once a transaction is open.

    def pipeline(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> AbstractAsyncContextManager[AsyncPipeline]:
        self._to_begin_anew = True
        return super().pipeline()

    async def set_autocommit(self, value: bool) -> None:
        self._to_begin_anew = True
        await super().set_autocommit(value)

    async def set_isolation_level(self, value: IsolationLevel | None) -> None:
        self._to_begin_anew = True
        await super().set_isolation_level(value)

    async def set_read_only(self, value: bool | None) -> None:
        self._to_begin_anew = True
        await super().set_read_only(value)

    async def set_deferrable(self, value: bool | None) -> None:
        self._to_begin_anew = True
        await super().set_deferrable(value)

    async def tpc_begin(self, xid: Xid | str) -> None:
        self._to_begin_anew = True
        await super().tpc_begin(xid)


def _ended(connection: AsyncHandlerConnection) -> Generator[Any, Any, None]:
    """The end of a transaction in which nothing was said, whatever psycopg believes of the connection by now."""
    connection.pgconn.send_query(b"commit")
    for result in (yield from generators.execute(connection.pgconn)):
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result, encoding=connection.info.encoding)


class HandlerConnection(Connection[Any]):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit."""

    def as_it_was_made(self, prepare_threshold: int | None) -> None:
        """Undo what a handler told psycopg of it. Between transactions."""
        self.row_factory = tuple_row
        self.cursor_factory = Cursor
        self.server_cursor_factory = ServerCursor
        self.prepare_threshold = prepare_threshold
        if not self.as_made:
            self.autocommit = False
            self.isolation_level = self.read_only = self.deferrable = None

    @property
    def as_made(self) -> bool:
        """Whether its transactions begin as they do on a new connection."""
        return _begins_as_made(self)

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Generator[Transaction]:
        if self.info.transaction_status == TransactionStatus.IDLE and not self.autocommit:
            self.execute("select")
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction


Any_Connection = AsyncHandlerConnection | HandlerConnection
