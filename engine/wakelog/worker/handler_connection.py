"""The connections that handlers are lent. Their outermost transaction is the worker's to commit.

How this stays correct
----------------------
A transaction may have been begun ahead: with the commit of the last one, which saves its own round trip, the third of
three that a short transaction takes. It holds nothing, neither a snapshot nor a lock, until something is said in it.
Begun before the work it is lent for had come, or a while ago, it is ended before the first statement, and another is
begun: `now()` is never before the event. So it is where a handler asks for something that no open transaction can be
given: another isolation level, autocommit.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, TypeVar

import psycopg
from psycopg import (
    AsyncClientCursor,
    AsyncCursor,
    AsyncServerCursor,
    AsyncTransaction,
    Connection,
    Cursor,
    IsolationLevel,
    ServerCursor,
    Transaction,
    Xid,
)
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.rows import tuple_row

from wakelog.postgres.watched import WatchedConnection

T = TypeVar("T")

KEPT_BEGUN = 0.05
"""Seconds for which a transaction that was begun ahead is used."""


class AsyncHandlerConnection(WatchedConnection):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit."""

    _begun_at: float | None = None
    """When a transaction was begun ahead, on the monotonic clock; None once something was said in it."""
    _to_begin_anew = False
    """Whether that transaction is not to be used."""

    @cached_property
    def workers_own(self) -> AsyncClientCursor[Any]:
        """What the worker commits with, several statements in one round trip."""
        return AsyncClientCursor(self)

    @property
    def begun_ahead(self) -> bool:
        """Whether a transaction is open in which nothing was said."""
        return self._begun_at is not None

    @property
    def is_old(self) -> bool:
        """Whether what was begun ahead has been open for as long as it may be."""
        return self._begun_at is not None and self._begun_at <= time.monotonic() - KEPT_BEGUN

    @property
    def as_made(self) -> bool:
        """Whether its transactions begin as they do on a new connection."""
        return self.isolation_level is None and self.read_only is None and self.deferrable is None

    def has_begun(self, at: float) -> None:
        """A transaction was begun ahead, not before that moment on the monotonic clock."""
        self._begun_at = at

    def lend(self, since: float) -> bool:
        """Lend it for work that came at that moment, on the monotonic clock; False where it has been lost.

        A transaction that has been open for long, since a handler held the event loop, the server may have ended, for
        being idle. The handler to whom it is lent next has nothing to do with that.
        """
        if self._begun_at is not None:
            old = self.is_old
            self._to_begin_anew = old or self._begun_at < since
            if old:
                with contextlib.suppress(psycopg.OperationalError):
                    for _ in range(2):  # what the server said last, and that it is gone
                        self.pgconn.consume_input()
        return self.pgconn.status == ConnStatus.OK

    async def end_unused(self) -> None:
        """End what was begun ahead, if nothing was said in it."""
        if self.begun_ahead:
            await self.rollback()

    async def as_it_was_made(self, prepare_threshold: int | None) -> None:
        """Undo what a handler told psycopg of it. Between transactions, or where one was begun ahead."""
        self.row_factory = tuple_row
        self.cursor_factory = AsyncCursor
        self.server_cursor_factory = AsyncServerCursor
        self.prepare_threshold = prepare_threshold
        if not self.as_made:
            await self.set_isolation_level(None)
            await self.set_read_only(None)
            await self.set_deferrable(None)

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        if self.begun_ahead:
            self._begun_at = None
            if self._to_begin_anew:
                await super().wait(self._rollback_gen())
        return await super().wait(gen, *args, **kwargs)

    @asynccontextmanager
    async def transaction(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncGenerator[AsyncTransaction]:
        begun = self.info.transaction_status != TransactionStatus.IDLE
        if not self.autocommit and (not begun or (self.begun_ahead and self._to_begin_anew)):
            await self.execute("select")  # psycopg begins before the first statement
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    async def set_autocommit(self, value: bool) -> None:
        await self.end_unused()
        await super().set_autocommit(value)

    async def set_isolation_level(self, value: IsolationLevel | None) -> None:
        await self.end_unused()
        await super().set_isolation_level(value)

    async def set_read_only(self, value: bool | None) -> None:
        await self.end_unused()
        await super().set_read_only(value)

    async def set_deferrable(self, value: bool | None) -> None:
        await self.end_unused()
        await super().set_deferrable(value)

    async def tpc_begin(self, xid: Xid | str) -> None:
        await self.end_unused()
        await super().tpc_begin(xid)


class HandlerConnection(Connection[Any]):
    """Whose ``transaction()`` is a savepoint always: the outermost transaction is the worker's to commit."""

    def as_it_was_made(self, prepare_threshold: int | None) -> None:
        """Undo what a handler told psycopg of it. Between transactions."""
        self.row_factory = tuple_row
        self.cursor_factory = Cursor
        self.server_cursor_factory = ServerCursor
        self.prepare_threshold = prepare_threshold
        self.isolation_level = self.read_only = self.deferrable = None

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Generator[Transaction]:
        if self.info.transaction_status == TransactionStatus.IDLE and not self.autocommit:
            self.execute("select")
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction


Any_Connection = AsyncHandlerConnection | HandlerConnection
