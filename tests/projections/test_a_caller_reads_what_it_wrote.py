"""`wait_until` returns when readers of a projection see what was committed before, or says that it takes too long."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import ProjectionBehind, UnknownProjection, Wakelog, append, fold, wait_until
from wakelog.testing import LogUnderTest

APP = f"app.projection('totals', sql={folds.SQL!r}, tables={folds.SQL_TABLES!r})"
COUNTED = {"key": "k", "n": 1}
WAITS = "select exists (select from pg_stat_activity where pid = %s and wait_event = 'PgSleep')"


def test_within_milliseconds(connection: psycopg.Connection, start_workers: StartWorkers) -> None:
    start_workers(APP)
    wait_until(connection, "totals", timeout=20)
    for n in range(1, 30):
        event = append(connection, "counted", COUNTED)
        wait_until(connection, "totals", event if n % 2 else None)
        assert one(connection, "select events from totals.totals") == n


def test_in_sql_and_asyncio(
    connection: psycopg.Connection, start_workers: StartWorkers, database: str
) -> None:
    start_workers(APP)
    append(connection, "counted", COUNTED)
    connection.execute("select wakelog.wait_until('totals', p_timeout => '20 s')")
    assert one(connection, "select events from totals.totals") == 1

    async def write_and_read() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as own:
            await append(own, "counted", COUNTED)
            assert await wait_until(own, "totals") == 2

    asyncio.run(write_and_read())
    assert one(connection, "select events from totals.totals") == 2


def test_one_that_is_resumed_goes_on_at_once(
    connection: psycopg.Connection, start_workers: StartWorkers
) -> None:
    """Nobody looks by himself for half a minute."""
    start_workers(f"import wakelog.projections.runner\nwakelog.projections.runner.POLL = 30\n{APP}")
    wait_until(connection, "totals", timeout=20)
    folded = "select runner_pid from wakelog.projection_status"
    connection.execute("select wakelog.pause_projection('totals')")
    connection.execute("notify wakelog_projections")  # so they look, as for any command
    until(lambda: one(connection, folded) is None)
    append(connection, "counted", COUNTED)
    until(lambda: one(connection, "select wakelog.head()") == 1)
    connection.execute("select wakelog.resume_projection('totals')")
    assert wait_until(connection, "totals", 1, timeout=10) == 1


def test_the_last_of_many_that_had_no_position_is_waited_for(
    connection: psycopg.Connection, database: str
) -> None:
    app = Wakelog("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES)
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
    insert = "insert into wakelog.events (type, payload) select 'counted', %s from generate_series(1, 10500)"
    connection.execute(insert, [Jsonb(COUNTED)])
    build = one(connection, "select id from wakelog.projection_builds where state = 'serving'")
    with psycopg.connect(database, autocommit=True) as other, ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(wait_until, other, "totals", timeout=4)
        until(lambda: one(connection, WAITS, other.info.backend_pid))
        connection.execute("select wakelog.sequence()")
        connection.execute("select wakelog.project_once(%s, 0, 10000)", [build])
        with pytest.raises(ProjectionBehind, match="position 10500 within"):
            waiting.result()


def test_too_long(connection: psycopg.Connection, database: str) -> None:
    app = Wakelog("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES)
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
    append(connection, "counted", COUNTED)
    with pytest.raises(ProjectionBehind, match="found it at 0") as raised:
        wait_until(connection, "totals", timeout=0.1)
    assert "Does a worker run it?" in (raised.value.hint or "")
    with pytest.raises(ProjectionBehind, match="position 7"):
        wait_until(connection, "totals", 7, timeout="50ms")
    with pytest.raises(UnknownProjection):
        wait_until(connection, "nothing")


def test_a_stopped_one_is_not_waited_for(connection: psycopg.Connection, database: str) -> None:
    app = Wakelog("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES)
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
        append(connection, "counted", {"key": "k", "n": "none"})
        with pytest.raises(AssertionError):
            log.run_until_idle(app)
    with pytest.raises(ProjectionBehind, match="has stopped at position 0"):
        wait_until(connection, "totals", timeout=30)


def test_a_live_one_is_folded_when_asked(connection: psycopg.Connection, database: str) -> None:
    app = Wakelog("test")

    @app.projection("cart", mode="live", on="cart.*", initial=list)
    def put(state: list[str], event: object) -> list[str]:
        return [*state, event.payload["item"]]  # pyright: ignore

    cart = app.projections["cart"]
    for item, stream in [("hat", "cart-1"), ("shoe", "cart-2"), ("coat", "cart-1")]:
        append(connection, "cart.put", {"item": item}, stream=stream)
    append(connection, "other", stream="cart-1")
    connection.execute("select wakelog.sequence()")
    assert fold(connection, cart, stream="cart-1") == ["hat", "coat"]
    assert fold(connection, cart, upto=2) == ["hat", "shoe"]

    async def asked() -> object:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as own:
            return await fold(own, cart)

    assert asyncio.run(asked()) == ["hat", "shoe", "coat"]
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
    assert one(connection, "select count(*) from wakelog.projections") == 0
