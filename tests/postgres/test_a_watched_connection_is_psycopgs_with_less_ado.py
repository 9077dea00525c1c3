"""A connection whose socket stays with the event loop does all that psycopg's does, and leaves no socket watched."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from typing import Any, LiteralString, ParamSpec, TypeVar
from unittest.mock import patch

import psycopg
import pytest
from tests.worker.waiting import until

from wakelog.postgres.watched import WatchedConnection

T = TypeVar("T")
P = ParamSpec("P")

MANY = 100
WIDE = 24 * 2**20
"""Bytes: more than the buffers of a socket hold."""


def in_a_loop(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """In an event loop of its own, and in less than a minute."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def in_time() -> T:
            async with asyncio.timeout(60):
                return await test(*args, **kwargs)

        return asyncio.run(in_time())

    return run


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[WatchedConnection]:
    connection = await WatchedConnection.connect(url, autocommit=True, **options)
    async with connection:
        yield connection


@contextmanager
def registrations() -> Iterator[list[int]]:
    """The sockets that are registered with the running event loop to be read, in their order."""
    made: list[int] = []
    loop = asyncio.get_running_loop()
    add = loop.add_reader

    def counted(fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        made.append(fd)
        return add(fd, callback, *args)

    with patch.object(loop, "add_reader", counted):
        yield made


def is_watched(fd: int) -> bool:
    return asyncio.get_running_loop().remove_reader(fd)


async def turns(count: int) -> None:
    """As many turns of the event loop, none of which waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def value(connection: WatchedConnection, query: Any, *parameters: Any) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return row and row[0]


async def terminated(url: str, pid: int) -> None:
    """The session has gone, and the event loop has had a moment to hear of it."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        await other.execute("select pg_terminate_backend(%s)", [pid])
    await seen(url, "select not exists (select from pg_stat_activity where pid = %s)", pid)
    await asyncio.sleep(0.1)


async def asleep(url: str, pid: int) -> None:
    """The session sleeps in a statement."""
    await seen(
        url, "select exists (select from pg_stat_activity where pid = %s and wait_event = 'PgSleep')", pid
    )


async def seen(url: str, condition: LiteralString, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as looking:
        await asyncio.to_thread(until, lambda: looking.execute(condition, [pid]).fetchone() == (True,))


@in_a_loop
async def test_its_socket_is_registered_once_for_many_statements(database: str) -> None:
    async with connected(database) as connection:
        with registrations() as made:
            for n in range(MANY):
                assert await value(connection, "select %s::int", n) == n
    assert len(made) == 1


@in_a_loop
async def test_statements_of_many_tasks_each_get_their_own_answer(database: str) -> None:
    async def ask(connection: WatchedConnection, base: int) -> list[int]:
        return [await value(connection, "select %s::int from pg_sleep(0.001)", base + n) for n in range(20)]

    async with connected(database) as one, connected(database) as two:
        found = await asyncio.gather(*(ask(which, 1000 * n) for n, which in enumerate([one, two] * 5)))
    assert found == [[1000 * n + k for k in range(20)] for n in range(10)]


@in_a_loop
async def test_an_error_is_raised_and_the_next_statement_runs(database: str) -> None:
    async with connected(database) as connection:
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1 / 0")
            assert await value(connection, "select 1") == 1


@in_a_loop
async def test_a_transaction_begins_before_its_first_statement_and_rolls_back(database: str) -> None:
    async with connected(database) as connection:
        await connection.set_autocommit(False)
        await connection.execute("create table t (n int)")
        await connection.rollback()
        assert await value(connection, "select to_regclass('t')") is None


@in_a_loop
async def test_what_does_not_fit_the_sockets_buffers_is_sent_and_read(database: str) -> None:
    async with connected(database) as connection:
        for autocommit in (True, False):  # by itself, and after the statement that begins its transaction
            await connection.set_autocommit(autocommit)
            assert len(await value(connection, "select %s::bytea", os.urandom(WIDE))) == WIDE
            assert await value(connection, "select 1") == 1


@in_a_loop
async def test_copying_pipelines_and_notifications_work_as_ever(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("create temp table t (n int)")
        async with connection.cursor() as cursor:
            async with cursor.copy("copy t from stdin") as copy:
                for n in range(MANY):
                    await copy.write_row([n])
            async with cursor.copy("copy (select n from t order by n) to stdout") as copy:
                assert [int(row[0]) async for row in copy.rows()] == list(range(MANY))
            async with connection.pipeline():
                for n in range(MANY):
                    await cursor.execute("insert into t values (%s)", [n])
            await cursor.executemany("insert into t values (%s)", [[n] for n in range(MANY)])
        assert await value(connection, "select count(*) from t") == 3 * MANY
        await connection.execute("listen bell")
        await connection.execute("notify bell, 'once'")
        heard = [told.payload async for told in connection.notifies(timeout=10, stop_after=1)]
        assert heard == ["once"]
        assert [told async for told in connection.notifies(timeout=0.1)] == []
        assert await value(connection, "select 1") == 1


@in_a_loop
async def test_a_task_that_is_cancelled_ends_its_statement_in_the_server(database: str) -> None:
    async with connected(database) as connection:
        for _ in range(2):
            sleeping = asyncio.create_task(value(connection, "select 'asleep' from pg_sleep(60)"))
            await asleep(database, connection.info.backend_pid)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert await value(connection, "select 1") == 1


@pytest.mark.parametrize("query", ["select 1", "select 1 / 0"])
@in_a_loop
async def test_a_task_cancelled_in_the_moment_of_its_answer_leaves_a_connection_to_use(
    database: str, query: str
) -> None:
    """The answer has been read, and its task not yet been resumed."""
    async with connected(database) as connection:
        asking = asyncio.create_task(value(connection, query))
        read = connection._readable

        def answered() -> None:
            read()
            if connection._answer is not None and connection._answer.done():
                asking.cancel()

        with patch.object(connection, "_readable", answered), pytest.raises(asyncio.CancelledError):
            await asking
        assert await value(connection, "select 1") == 1


@in_a_loop
async def test_what_comes_while_nobody_waits_does_not_keep_the_loop_awake(database: str) -> None:
    async with connected(database) as connection, connected(database) as other:
        heard: list[str] = []
        connection.add_notify_handler(lambda told: heard.append(told.payload))
        await connection.execute("listen bell")
        looked = 0
        read = connection._readable

        def counted() -> None:
            nonlocal looked
            looked += 1
            read()

        connection.unwatch()
        with patch.object(connection, "_readable", counted):
            await connection.execute("select")
            looked = 0
            await other.execute("notify bell, 'unasked'")
            await asyncio.sleep(0.1)
            await turns(MANY)
            assert looked <= 1
            assert heard == []
            await connection.execute("select")
        assert heard == ["unasked"]


@in_a_loop
async def test_a_session_that_the_server_ends_does_not_keep_the_loop_awake_and_is_told_with_the_next_statement(
    database: str,
) -> None:
    async with connected(database) as connection:
        await connection.execute("select")
        fd = connection.fileno()
        await terminated(database, connection.info.backend_pid)
        assert not is_watched(fd)
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("select")
        assert connection.closed


@in_a_loop
async def test_a_session_that_ends_under_a_statement_leaves_no_socket_watched(database: str) -> None:
    async with connected(database) as connection:
        fd, pid = connection.fileno(), connection.info.backend_pid
        asking = asyncio.create_task(connection.execute("select pg_sleep(60)"))
        await asleep(database, pid)
        await terminated(database, pid)
        with pytest.raises(psycopg.OperationalError):
            await asking
        assert not is_watched(fd)


@in_a_loop
async def test_a_closed_connections_number_may_be_the_next_ones(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("select")
        fd = connection.fileno()
    assert not is_watched(fd)
    async with connected(database) as connection:
        assert connection.fileno() == fd
        assert await value(connection, "select 1") == 1


@in_a_loop
async def test_another_may_watch_the_socket_once_it_is_unwatched(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("select")
        connection.unwatch()
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(connection.fileno(), told.set)
        await connection.execute("listen bell")
        assert not told.is_set()
        assert await value(connection, "select 1") == 1


def test_it_may_go_on_in_another_event_loop(database: str) -> None:
    @in_a_loop
    async def begin() -> WatchedConnection:
        connection = await WatchedConnection.connect(database, autocommit=True)
        await connection.execute("select")
        return connection

    @in_a_loop
    async def go_on(connection: WatchedConnection) -> int:
        async with connection:
            return await value(connection, "select 1")

    assert go_on(begin()) == 1
