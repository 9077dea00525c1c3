"""A connection whose socket stays with the event loop does all that psycopg's does, and leaves no socket watched."""

import asyncio
import gc
import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, LiteralString, ParamSpec, Self, TypeVar
from unittest.mock import patch

import psycopg
import pytest
from psycopg.waiting import Wait
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


class Watched:
    """What is registered with the running event loop to be read, from now on."""

    def __init__(self) -> None:
        self.made = 0
        self.now: set[int] = set()

    @classmethod
    @contextmanager
    def followed(cls) -> Iterator[Self]:
        loop = asyncio.get_running_loop()
        add, remove = loop.add_reader, loop.remove_reader
        found = cls()

        def added(fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
            found.made += 1
            found.now.add(fd)
            return add(fd, callback, *args)

        def removed(fd: Any) -> bool:
            found.now.discard(fd)
            return remove(fd)

        with patch.object(loop, "add_reader", added), patch.object(loop, "remove_reader", removed):
            yield found


def files() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


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


async def asleep(connection: WatchedConnection, url: str, query: LiteralString) -> "asyncio.Task[Any]":
    """A task whose statement sleeps in the server."""
    asking = asyncio.create_task(value(connection, query))
    sleeps = "select exists (select from pg_stat_activity where pid = %s and wait_event = 'PgSleep')"
    await seen(url, sleeps, connection.info.backend_pid)
    return asking


async def seen(url: str, condition: LiteralString, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as looking:
        await asyncio.to_thread(until, lambda: looking.execute(condition, [pid]).fetchone() == (True,))


@in_a_loop
async def test_its_socket_is_registered_once_for_many_statements(database: str) -> None:
    async with connected(database) as connection:
        with Watched.followed() as found:
            for n in range(MANY):
                assert await value(connection, "select %s::int", n) == n
    assert found.made == 1


@in_a_loop
async def test_it_stays_registered_while_the_event_loop_turns_between_statements(database: str) -> None:
    async with connected(database) as connection:
        with Watched.followed() as found:
            for n in range(MANY):
                assert await value(connection, "select %s::int", n) == n
                await turns(5)
    assert found.made == 1


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
            sleeping = await asleep(connection, database, "select 'asleep' from pg_sleep(60)")
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert await value(connection, "select 1") == 1


@in_a_loop
async def test_a_task_cancelled_in_the_moment_of_its_answer_leaves_a_connection_to_use(database: str) -> None:
    """What has come is there to be read, and its task has not been resumed to read it."""
    async with connected(database) as connection:
        tell = WatchedConnection._tell

        def told(which: "weakref.ref[WatchedConnection]") -> None:
            tell(which)
            if not asking.cancelling():
                asking.cancel()

        with patch.object(WatchedConnection, "_tell", staticmethod(told)):
            asking = asyncio.create_task(value(connection, "select 1"))
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert await value(connection, "select 1") == 1


@in_a_loop
async def test_a_cancellation_is_one_also_where_the_connection_is_closed_at_once(database: str) -> None:
    async with connected(database) as connection:
        asking = await asleep(connection, database, "select pg_sleep(60)")
        asking.cancel()
        await connection.close()
        with pytest.raises(asyncio.CancelledError):
            await asking


@in_a_loop
async def test_a_statement_ends_where_another_task_closes_its_connection(database: str) -> None:
    async with connected(database) as connection:
        asking = await asleep(connection, database, "select pg_sleep(60)")
        await connection.close()
        with pytest.raises(psycopg.OperationalError):
            await asking


@in_a_loop
async def test_a_statement_goes_on_where_another_task_ends_the_watching(database: str) -> None:
    async with connected(database) as connection:
        asking = await asleep(connection, database, "select 7 from pg_sleep(0.5)")
        connection._unwatch()
        assert await asking == 7


@in_a_loop
async def test_handlers_of_what_the_server_says_run_in_the_statements_own_task(database: str) -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    found: list[tuple[str, object]] = []

    async def ask(connection: WatchedConnection, name: str) -> None:
        whose.set(name)
        await connection.execute("do $$ begin raise notice 'x'; end $$")

    async with connected(database) as connection:
        connection.add_notice_handler(lambda _: found.append((whose.get(), asyncio.current_task())))
        tasks = [asyncio.create_task(ask(connection, name)) for name in ("a", "b", "c")]
        await asyncio.gather(*tasks)
    assert found == list(zip(("a", "b", "c"), tasks, strict=True))


@in_a_loop
async def test_what_comes_while_nobody_waits_does_not_keep_the_loop_awake(database: str) -> None:
    async with connected(database) as connection, connected(database) as other:
        heard: list[str] = []
        connection.add_notify_handler(lambda told: heard.append(told.payload))
        await connection.execute("listen bell")
        await connection.execute("select")
        with patch.object(WatchedConnection, "_tell", wraps=WatchedConnection._tell) as told:
            connection._unwatch()
            await connection.execute("select")
            told.reset_mock()
            await other.execute("notify bell, 'unasked'")
            await asyncio.sleep(0.1)
            await turns(MANY)
            assert 1 <= sum(called.args[0]() is connection for called in told.call_args_list) <= 2
            assert heard == []
            await connection.execute("select")
        assert heard == ["unasked"]


@in_a_loop
async def test_a_session_that_the_server_ends_does_not_keep_the_loop_awake_and_is_told_with_the_next_statement(
    database: str,
) -> None:
    with Watched.followed() as found:
        async with connected(database) as connection:
            await connection.execute("select")
            assert len(found.now) == 1
            await terminated(database, connection.info.backend_pid)
            assert found.now == set()
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select")
            assert connection.closed


@in_a_loop
async def test_a_session_that_ends_under_a_statement_leaves_nothing_watched(database: str) -> None:
    with Watched.followed() as found:
        async with connected(database) as connection:
            pid = connection.info.backend_pid
            asking = await asleep(connection, database, "select pg_sleep(60)")
            await terminated(database, pid)
            with pytest.raises(psycopg.OperationalError):
                await asking
            assert found.now == set()


@in_a_loop
async def test_a_connection_that_is_closed_leaves_nothing_watched_and_no_file_open(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("select")  # what the event loop itself opens is open now
    before = files()
    with Watched.followed() as found:
        for _ in range(3):
            async with connected(database) as connection:
                await connection.execute("select")
    assert found.now == set()
    assert files() == before


@in_a_loop
async def test_where_libpq_closes_the_socket_the_next_one_of_its_number_is_watched_as_any_other(
    database: str,
) -> None:
    """As it does wherever it finds a connection lost, also in the middle of sending."""
    connection = await WatchedConnection.connect(database, autocommit=True)
    await connection.execute("select")
    number = connection.fileno()
    connection.pgconn.finish()
    async with connected(database) as following:
        assert following.fileno() == number
        assert await value(following, "select 1") == 1
        with Watched.followed() as found:
            connection._unwatch()
            assert await value(following, "select 1") == 1
        assert found.made == 0


@in_a_loop
async def test_one_that_fails_to_send_leaves_nothing_watched(database: str) -> None:
    def fails() -> Iterator[Any]:
        raise psycopg.OperationalError("lost")
        yield

    async with connected(database) as connection:
        with Watched.followed() as found:
            connection._unwatch()
            await connection.execute("select")
            assert len(found.now) == 1
            with pytest.raises(psycopg.OperationalError, match="lost"):
                await connection.wait(fails())  # pyright: ignore[reportArgumentType]
            assert found.now == set()
        assert await value(connection, "select 1") == 1


@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@in_a_loop
async def test_one_that_nobody_has_any_more_is_collected_and_its_session_ends(database: str) -> None:
    before = files()
    connection = await WatchedConnection.connect(database)
    await connection.execute("select")
    pid, gone = connection.info.backend_pid, weakref.ref(connection)
    with Watched.followed() as found:
        found.now.add(connection._duplicate)
        del connection
        gc.collect()
        assert gone() is None
        assert found.now == set()
    assert files() == before
    await seen(database, "select not exists (select from pg_stat_activity where pid = %s)", pid)


@in_a_loop
async def test_without_a_file_descriptor_to_spare_it_waits_as_psycopg_does(database: str) -> None:
    async with connected(database) as connection:
        with (
            Watched.followed() as found,
            patch.object(os, "dup", side_effect=OSError(24, "Too many open files")),
        ):
            assert await value(connection, "select 1 from pg_sleep(0.01)") == 1
    assert found.now == set()


@in_a_loop
async def test_what_is_asked_of_a_closed_connection_says_that_it_is_closed(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("select")
    for asked in (connection.commit, connection.rollback, lambda: connection.set_autocommit(False)):
        with pytest.raises(psycopg.OperationalError, match="the connection is closed"):
            await asked()


@in_a_loop
async def test_another_may_be_told_of_the_socket_as_well(database: str) -> None:
    async with connected(database) as connection, connected(database) as other:
        await connection.execute("listen bell")
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(connection.fileno(), told.set)
        await other.execute("notify bell")
        await told.wait()
        assert loop.remove_reader(connection.fileno())
        assert await value(connection, "select 1") == 1


@in_a_loop
async def test_two_may_wait_for_it_at_once(database: str) -> None:
    """Not for statements, which take turns."""

    def something() -> Iterator[Any]:
        yield Wait.R

    async with connected(database) as connection, connected(database) as other:
        await connection.execute("listen bell")
        waiting = [asyncio.create_task(connection.wait(something())) for _ in range(2)]  # pyright: ignore[reportArgumentType]
        await turns(3)
        await other.execute("notify bell")
        await asyncio.gather(*waiting)
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
