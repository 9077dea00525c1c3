"""Where an agent's next work waits, its transaction is begun in the round trip of the last commit; nobody notices."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import Connection, IsolationLevel, sql
from psycopg.pq import TransactionStatus
from tests.worker.asking import append
from tests.worker.waiting import one, until

from wakelog.worker import handler_connection
from wakelog.worker.connections import HandlerConnections
from wakelog.worker.handler_connection import AsyncHandlerConnection

IDLE_IN_TRANSACTION = """
    select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'wakelog handler' and state = 'idle in transaction'
"""

APP = """
from psycopg import IsolationLevel

@app.agent("work", on="push", start="beginning")
async def work(event, ctx):
    connection = ctx.connection
    before = connection.info.transaction_status.name
    kind = event.payload["kind"]
    match kind:
        case "serializable": await connection.set_isolation_level(IsolationLevel.SERIALIZABLE)
        case "says serializable": await connection.execute("set transaction isolation level serializable")
        case "read only": await connection.set_read_only(True)
        case "deferrable": await connection.set_deferrable(True)
        case "uses it not": return None
        case "rolls back": await connection.rollback()
        case "commits": await connection.commit()
        case "block":
            async with connection.transaction(): await connection.execute("select")
    cursor = await connection.execute(
        '''select current_setting('transaction_isolation'), current_setting('transaction_read_only'),
                  current_setting('transaction_deferrable'), now() >= d.claimed_at,
                  current_setting('search_path'), to_regclass('pg_temp.mine')::text, session_user = current_user
           from wakelog.deliveries d where d.position = %s''', [event.position])
    found = await cursor.fetchone()
    if kind == "read only": await connection.rollback()
    else: await connection.execute("insert into effects values (%s)", [event.position])
    if kind == "sets":
        await connection.execute("set search_path = other")
        await connection.execute("create temp table mine (n int)")
        await connection.execute("set role pg_read_all_data")
        await connection.execute("reset role")
        await connection.execute("listen something")
    return {"kind": kind, "before": before, "found": found}
"""

AS_EVER = [True, '"$user", public', None, True]
DEFAULT = ["read committed", "off", "off", *AS_EVER]
FOUND = {
    "writes": DEFAULT,
    "sets": DEFAULT,
    "serializable": ["serializable", *DEFAULT[1:]],
    "says serializable": ["serializable", *DEFAULT[1:]],
    "read only": ["read committed", "on", "off", *AS_EVER],
    "deferrable": ["read committed", "off", "on", *AS_EVER],
    "rolls back": DEFAULT,
    "commits": DEFAULT,
    "block": DEFAULT,
}


def test_it_is_begun_ahead_and_no_handler_can_tell(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (position bigint)")
    connection.execute("create schema other create table effects (position bigint)")
    kinds = [*FOUND, "uses it not", "sets", "writes", "writes"] * 20
    for kind in kinds:
        append(connection, "push", payload={"kind": kind})
    start_workers(APP, slots=3)
    done = "select count(*) from wakelog.events where type = 'work.completed'"
    until(lambda: one(connection, done) == len(kinds) - kinds.count("uses it not"))
    results = [row[0] for row in connection.execute(
        "select payload from wakelog.events where type = 'work.completed'"
    )]  # fmt: skip
    assert {result["before"] for result in results} == {"IDLE", "INTRANS"}
    for result in results:
        assert result["found"] == FOUND[result["kind"]], result["kind"]
    until(lambda: one(connection, "select count(*) from wakelog.deliveries") == 0)
    assert one(connection, "select count(*) from wakelog.dead_letters") == 0
    assert sorted(row[0] for row in connection.execute("select position from effects")) == [
        position for position, kind in enumerate(kinds, 1) if kind not in ("read only", "uses it not")
    ]
    assert one(connection, "select count(*) from other.effects") == 0
    until(lambda: one(connection, IDLE_IN_TRANSACTION) == 0)


def test_one_that_waits_long_for_its_first_statement_is_ended(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    """A handler may do something else for minutes; servers end what is idle in a transaction for so long."""
    connection.execute("create table effects (late interval)")
    name = one(connection, "select current_database()")
    connection.execute(
        sql.SQL("alter database {} set idle_in_transaction_session_timeout = '2s'").format(
            sql.Identifier(name)
        )
    )
    for n in range(300):
        append(connection, "push", payload={"n": n})
    start_workers("""
        @app.agent("work", on="push", start="beginning", max_attempts=1)
        async def work(event, ctx):
            connection = ctx.connection
            before = connection.info.transaction_status.name
            slow = event.payload["n"] in (100, 150, 200, 250)
            if slow: await asyncio.sleep(3)
            await connection.execute("insert into effects select clock_timestamp() - now()")
            return before if slow else None
    """)
    until(lambda: one(connection, "select count(*) from effects") == 300)
    assert one(connection, "select count(*) from wakelog.dead_letters") == 0
    assert one(connection, "select bool_or(payload = to_jsonb('INTRANS'::text)) from wakelog.events")
    assert one(connection, "select max(late) < '2 s' from effects")


def test_what_takes_it_and_says_nothing_is_acknowledged_with_others(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    """By the one connection that finishes many at a time, and not by the one that each of them has taken."""
    connection.execute(
        """create table effects (n int);
           create table finished_by (position bigint, pid int);
           create function tell() returns trigger language plpgsql as $$
           begin insert into public.finished_by values (new.position, pg_backend_pid()); return null; end $$;
           create trigger tell after insert on wakelog.history for each row execute function tell();
           -- Longer than handlers take, so that others end meanwhile, whatever the machine does.
           create function linger() returns trigger language plpgsql as $$
           begin perform pg_sleep(0.1); return null; end $$;
           create trigger linger after insert on wakelog.history for each statement execute function linger()"""
    )
    for n in range(320):
        append(connection, "push", payload={"n": n})
    start_workers("""
        @app.agent("work", on="push", start="beginning")
        async def work(event, ctx):
            connection = ctx.connection
            if event.payload["n"] < 20: await connection.execute("insert into effects values (%s)", [event.position])
    """)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 320)
    silent = "select count(distinct pid) from finished_by where position > 20"
    assert one(connection, silent) == 1
    assert one(connection, "select count(distinct xmin::text) from wakelog.history where position > 30") < 100
    both = "select pid from finished_by where position > 20 intersect select pid from finished_by where position <= 20"
    assert one(connection, both) is None


def test_what_fails_in_it_is_rolled_back_alone(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (n int)")
    for n in range(60):
        append(connection, "push", payload={"n": n})
    start_workers("""
        @app.agent("work", on="push", start="beginning", max_attempts=1)
        async def work(event, ctx):
            connection, n = ctx.connection, event.payload["n"]
            async with connection.transaction(): await connection.execute("insert into effects values (%s)", [n])
            if n % 3 == 0: raise ValueError("after writing")
            return connection.info.transaction_status.name
    """)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 20)
    until(lambda: one(connection, "select count(*) from wakelog.events where type = 'work.completed'") == 40)
    found = sorted(row[0] for row in connection.execute("select n from effects"))
    assert found == [n for n in range(60) if n % 3]


@asynccontextmanager
async def begun(
    url: str, since: Callable[[], float] = lambda: 0.0
) -> AsyncGenerator[tuple[AsyncHandlerConnection, Any]]:
    """A connection lent with a transaction that was begun ahead, and a time of the server's clock after that."""
    pool = HandlerConnections(url, pooled=False)
    connection = pool.take_async()
    await begin_ahead(pool, connection)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        row = await (await other.execute("select clock_timestamp()")).fetchone()
    assert row is not None
    assert pool.take_async(since()) is connection
    yield connection, row[0]
    await pool.give_back(connection, forgotten=False)
    await pool.close()


async def begin_ahead(pool: HandlerConnections, connection: AsyncHandlerConnection) -> None:
    assert pool.begins_ahead(connection)
    now = time.monotonic()
    await connection.workers_own.execute("begin; commit;" + pool.forget_and_begin)
    pool.has_begun(connection, now)
    await pool.give_back(connection, forgotten=True)
    assert connection.info.transaction_status == TransactionStatus.INTRANS


async def began(connection: AsyncHandlerConnection) -> Any:
    row = await (await connection.execute("select now()")).fetchone()
    assert row is not None
    return row[0]


def test_it_is_used_for_work_that_had_come(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_connection, "KEPT_BEGUN", 60.0)

    async def use() -> None:
        async with begun(database) as (connection, later):
            assert await began(connection) < later
            assert await began(connection) < later

    asyncio.run(use())


def test_another_is_begun_for_work_that_came_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_connection, "KEPT_BEGUN", 60.0)

    async def use() -> None:
        async with begun(database, time.monotonic) as (connection, later):
            assert await began(connection) > later

    asyncio.run(use())


def test_another_is_begun_where_it_has_grown_old(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_connection, "KEPT_BEGUN", 0.0)

    async def use() -> None:
        async with begun(database) as (connection, later):
            assert await began(connection) > later

    asyncio.run(use())


async def _isolation(connection: AsyncHandlerConnection) -> None:
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)


async def _read_only(connection: AsyncHandlerConnection) -> None:
    await connection.set_read_only(True)


async def _deferrable(connection: AsyncHandlerConnection) -> None:
    await connection.set_deferrable(True)


async def _autocommit(connection: AsyncHandlerConnection) -> None:
    await connection.set_autocommit(True)


@pytest.mark.parametrize("ask", [_isolation, _read_only, _deferrable, _autocommit])
@pytest.mark.parametrize("since", [lambda: 0.0, time.monotonic])
def test_what_no_open_transaction_can_be_given_begins_another(
    database: str, ask: Callable[[AsyncHandlerConnection], Awaitable[None]], since: Callable[[], float]
) -> None:
    async def use() -> None:
        async with begun(database, since) as (connection, later):
            await ask(connection)
            assert await began(connection) > later
            if not connection.autocommit:
                with pytest.raises(psycopg.ProgrammingError, match="INTRANS"):
                    await ask(connection)

    asyncio.run(use())


@pytest.mark.parametrize("since", [lambda: 0.0, time.monotonic])
def test_many_statements_at_once_may_be_the_first(database: str, since: Callable[[], float]) -> None:
    async def use() -> None:
        async with begun(database, since) as (connection, _), connection.cursor() as cursor:
            await cursor.executemany("select %s", [[1], [2]])
        async with begun(database, since) as (connection, later), connection.pipeline():
            assert await began(connection) > later
        async with begun(database, since) as (connection, later), connection.pipeline():
            await connection.set_isolation_level(IsolationLevel.SERIALIZABLE)
            assert await began(connection) > later
        async with (
            begun(database, since) as (connection, _),
            connection.cursor() as cursor,
            cursor.copy("copy (select 1) to stdout") as copy,
        ):
            assert [row async for row in copy.rows()] == [("1",)]
        async with begun(database, since) as (connection, _), connection.cursor() as cursor:
            assert [row async for row in cursor.stream("select 1")] == [(1,)]

    asyncio.run(use())


def test_statements_that_were_prepared_stay_so(database: str) -> None:
    async def use() -> None:
        async with begun(database, time.monotonic) as (connection, _):
            await connection.execute("select 1", prepare=True)
            prepared = "select count(*) from pg_prepared_statements where statement = 'select 1'"
            await connection.rollback()
            await connection.execute("select 1", prepare=True)
            await connection.commit()
            connection.has_begun(0.0)  # as long ago as can be
            await connection.workers_own.execute("begin")
            connection.has_begun(0.0)
            assert await (await connection.execute(prepared)).fetchone() == (1,)

    asyncio.run(use())


def test_no_block_is_outermost_whatever_is_said_beside_it(database: str, connection: Connection[Any]) -> None:
    connection.execute("create table effects (n int)")

    async def use() -> None:
        for since in (lambda: 0.0, time.monotonic):
            async with begun(database, since) as (handlers, _):

                async def block() -> None:
                    async with handlers.transaction():
                        await handlers.execute("insert into effects values (1)")

                await asyncio.gather(handlers.set_deferrable(False), block())
                assert handlers.info.transaction_status == TransactionStatus.INTRANS
                assert one(connection, "select count(*) from effects") == 0

    asyncio.run(use())


def test_a_two_phase_transaction_is_begun_instead(database: str) -> None:
    async def use() -> None:
        async with begun(database) as (connection, later):
            await connection.tpc_begin(connection.xid(1, "global", "branch"))
            assert await began(connection) > later
            await connection.tpc_rollback()

    asyncio.run(use())


@pytest.mark.parametrize("since", [lambda: 0.0, time.monotonic])
def test_a_block_in_it_is_a_savepoint(
    database: str, connection: Connection[Any], since: Callable[[], float]
) -> None:
    connection.execute("create table effects (n int)")

    async def use() -> None:
        async with begun(database, since) as (handlers, _):
            async with handlers.transaction():
                await handlers.execute("insert into effects values (1)")
            assert handlers.info.transaction_status == TransactionStatus.INTRANS
            assert one(connection, "select count(*) from effects") == 0

    asyncio.run(use())
    assert one(connection, "select count(*) from effects") == 0


def test_one_that_nobody_asks_for_is_ended(database: str, connection: Connection[Any]) -> None:
    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        lent = [pool.take_async() for _ in range(3)]
        for handlers in lent:
            await begin_ahead(pool, handlers)
        assert one(connection, IDLE_IN_TRANSACTION) == 3
        await asyncio.to_thread(until, lambda: one(connection, IDLE_IN_TRANSACTION) == 0)
        again = [pool.take_async() for _ in range(3)]
        assert set(again) == set(lent)
        for handlers in again:
            assert not handlers.begun_ahead
            await begin_ahead(pool, handlers)  # and so on
        await asyncio.to_thread(until, lambda: one(connection, IDLE_IN_TRANSACTION) == 0)
        await pool.close()

    asyncio.run(use())


def test_one_that_is_ended_at_the_end_of_the_worker_is_closed(database: str) -> None:
    """Whatever was being done with it; a connection that is left behind is told by a warning, which fails the test."""

    async def use(turns: int) -> None:
        pool = HandlerConnections(database, pooled=False)
        await begin_ahead(pool, pool.take_async())
        await asyncio.sleep(handler_connection.KEPT_BEGUN)
        for _ in range(turns):
            await asyncio.sleep(0)
        await pool.close()

    for turns in range(8):
        asyncio.run(use(turns))
        gc.collect()


def test_one_that_the_server_has_ended_is_not_missed(database: str, connection: Connection[Any]) -> None:
    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        await begin_ahead(pool, pool.take_async())
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'wakelog handler'"
        )
        await asyncio.to_thread(until, lambda: pool.idle == 0)
        another = pool.take_async()
        await another.execute("select")
        await pool.give_back(another, forgotten=False)
        await pool.close()

    asyncio.run(use())


def test_one_that_the_server_has_ended_is_not_lent(database: str, connection: Connection[Any]) -> None:
    """As for being idle for so long, while a handler held the event loop."""

    async def use() -> None:
        pool = HandlerConnections(database, pooled=False)
        ended = pool.take_async()
        await begin_ahead(pool, ended)
        connection.execute("select pg_terminate_backend(%s, 5000)", [ended.info.backend_pid])
        time.sleep(handler_connection.KEPT_BEGUN)  # noqa: ASYNC251 - holds the event loop
        another = pool.take_async()
        await another.execute("select")
        await pool.give_back(another, forgotten=False)
        await pool.close()

    asyncio.run(use())


def test_none_is_begun_behind_a_pooler_or_of_another_kind(database: str) -> None:
    async def use() -> None:
        behind = HandlerConnections(database, pooled=True)
        handlers = behind.take_async()
        assert not behind.begins_ahead(handlers)
        await behind.give_back(handlers, forgotten=True)
        await behind.close()
        pool = HandlerConnections(database, pooled=False)
        for ask in (_isolation, _read_only, _deferrable):
            handlers = pool.take_async()
            assert pool.begins_ahead(handlers)
            await ask(handlers)
            assert not pool.begins_ahead(handlers)
            await pool.give_back(handlers, forgotten=True)
        await pool.close()

    asyncio.run(use())
