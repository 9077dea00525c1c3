"""What one handler did with its connection is not the next one's, whichever way it came back."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import AsyncCursor, AsyncServerCursor, Connection, Cursor, IsolationLevel, ServerCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from tests.worker.asking import append
from tests.worker.waiting import one, until

from wakelog.worker.connections import HandlerConnections


def test_a_row_factory_of_a_handlers_is_not_the_workers(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (n int)")
    append(connection, *["push"] * 10)
    workers = start_workers("""
        def own(cursor):
            if cursor.description[0].name != "n": raise ValueError("not for this one")
            return tuple

        @app.agent("async", on="push", start="beginning", max_attempts=1)
        async def in_async(event, ctx):
            ctx.connection.row_factory = own
            await ctx.connection.execute("insert into effects values (1) returning n")

        @app.agent("sync", on="push", start="beginning", max_attempts=1)
        def in_sync(event, ctx):
            ctx.connection.row_factory = own
            ctx.connection.execute("insert into effects values (1) returning n")
    """)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 20)
    assert one(connection, "select count(*) from effects") == 20
    assert "no longer holds" not in workers.said()
    assert "not for this one" not in workers.said()


def test_what_is_said_too_late_is_rolled_back(database: str, connection: Connection[Any]) -> None:
    """By somebody who keeps the connection of a handler that has ended."""
    connection.execute("create table effects (n int)")

    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        handlers = pool.take_async()
        await handlers.execute("insert into effects values (1)")
        await pool.give_back(handlers, forgotten=True)
        assert pool.take_async() is handlers
        assert handlers.info.transaction_status == TransactionStatus.IDLE
        await pool.give_back(handlers, forgotten=True)
        await pool.close()

    asyncio.run(use())
    assert one(connection, "select count(*) from effects") == 0


def test_one_that_is_given_back_after_the_end_is_closed(database: str) -> None:
    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        both = pool.take_async(), pool.take_sync()
        await pool.close()
        for handlers in both:
            await pool.give_back(handlers, forgotten=False)
            assert handlers.closed

    asyncio.run(use())


@pytest.mark.parametrize("turns", range(0, 24, 2))
def test_one_whose_return_is_cancelled_is_closed_or_kept(database: str, turns: int) -> None:
    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        handlers = pool.take_async()
        await handlers.execute("select")
        giving = asyncio.create_task(pool.give_back(handlers, forgotten=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        giving.cancel()
        await asyncio.wait([giving])
        assert handlers.closed or pool.idle == 1 or turns == 0
        if turns == 0:
            await handlers.close()
        await pool.close()
        assert handlers.closed

    asyncio.run(use())
    gc.collect()


def test_what_a_handler_tells_psycopg_is_not_the_next_ones(database: str) -> None:
    """On an async connection and on a sync one, whether it had been forgotten with the commit or not."""

    class OwnCursor(Cursor[Any]):
        pass

    class OwnServerCursor(ServerCursor[Any]):
        pass

    class OwnAsyncCursor(AsyncCursor[Any]):
        pass

    class OwnAsyncServerCursor(AsyncServerCursor[Any]):
        pass

    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        for forgotten in (False, True):
            handlers = pool.take_async()
            await handlers.set_isolation_level(IsolationLevel.SERIALIZABLE)
            await handlers.set_read_only(True)
            await handlers.set_deferrable(True)
            handlers.row_factory = dict_row
            handlers.cursor_factory = OwnAsyncCursor
            handlers.server_cursor_factory = OwnAsyncServerCursor
            handlers.prepare_threshold = 0
            await handlers.set_autocommit(True)
            await pool.give_back(handlers, forgotten=forgotten)
            assert pool.take_async() is handlers
            assert handlers.as_made
            assert handlers.row_factory is tuple_row
            assert handlers.cursor_factory is AsyncCursor
            assert handlers.server_cursor_factory is AsyncServerCursor
            assert handlers.prepare_threshold == 5
            await pool.give_back(handlers, forgotten=True)

            sync = pool.take_sync()
            sync.isolation_level, sync.read_only, sync.deferrable = IsolationLevel.SERIALIZABLE, True, True
            sync.row_factory = dict_row
            sync.cursor_factory = OwnCursor
            sync.server_cursor_factory = OwnServerCursor
            sync.prepare_threshold = 0
            sync.autocommit = True
            await pool.give_back(sync, forgotten=forgotten)
            assert pool.take_sync() is sync
            assert (sync.isolation_level, sync.read_only, sync.deferrable) == (None, None, None)
            assert sync.row_factory is tuple_row
            assert not sync.autocommit
            assert (sync.cursor_factory, sync.server_cursor_factory) == (Cursor, ServerCursor)
            assert sync.prepare_threshold == 5
            await pool.give_back(sync, forgotten=True)
        await pool.close()

    asyncio.run(use())


def test_autocommit_alone_is_not_the_next_ones(database: str) -> None:
    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        handlers, sync = pool.take_async(), pool.take_sync()
        await handlers.set_autocommit(True)
        sync.autocommit = True
        await pool.give_back(handlers, forgotten=True)
        await pool.give_back(sync, forgotten=True)
        assert pool.take_async() is handlers
        assert pool.take_sync() is sync
        assert not handlers.autocommit
        assert not sync.autocommit
        await pool.give_back(handlers, forgotten=True)
        await pool.give_back(sync, forgotten=True)
        await pool.close()

    asyncio.run(use())
