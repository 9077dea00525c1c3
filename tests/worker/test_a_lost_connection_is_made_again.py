import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection
from tests.worker.asking import append
from tests.worker.waiting import one, until

from wakelog.testing import ThrowawayPostgres

# One agent writes through its connection, in every second event; one answers; one writes in a thread.
APP = """
@app.agent("effects", on="push", start="beginning", max_attempts=1)
async def effects(event, ctx):
    if event.position % 2:
        await asyncio.sleep(0.002)
        await ctx.connection.execute("insert into effects values ('async', %s)", [event.position])
    return event.position

@app.agent("thread", on="push", start="beginning", max_attempts=1)
def thread(event, ctx):
    ctx.connection.execute("insert into effects values ('sync', %s)", [event.position])
    return ctx.step("name", lambda: event.position)
"""

COMPLETED = "select count(*) from wakelog.events where type in ('effects.completed', 'thread.completed')"


def check(connection: Connection[Any], events: int) -> None:
    """Everything was done, and done once."""
    until(lambda: one(connection, COMPLETED) >= 2 * events, within=60)
    until(lambda: one(connection, "select count(*) from wakelog.deliveries") == 0)
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert one(connection, COMPLETED) == 2 * events
    for kind, times in (("async", 2), ("sync", 1)):
        effects = connection.execute("select n from effects where kind = %s order by n", [kind]).fetchall()
        assert [n for (n,) in effects] == list(
            positions(connection, 1 if times == 2 else 0, 2 if times == 2 else 1)
        )
    twice = (
        "select count(*) from (select from wakelog.history group by agent_id, position having count(*) > 1) t"
    )
    assert one(connection, twice) == 0


def positions(connection: Connection[Any], remainder: int, modulus: int) -> list[int]:
    rows = connection.execute(
        "select position from wakelog.log_events where type = 'push' and position %% %s = %s order by 1",
        [modulus, remainder % modulus],
    ).fetchall()
    return [position for (position,) in rows]


def produce(connection: Connection[Any], events: int) -> None:
    connection.execute(
        "insert into wakelog.events (type) select 'push' from generate_series(1, %s)", [events]
    )


def produce_and_see_it_begin(connection: Connection[Any]) -> None:
    done = one(connection, COMPLETED)
    produce(connection, 100)
    until(lambda: one(connection, COMPLETED) > done)


def test_every_backend_of_the_worker_is_terminated_again_and_again(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (kind text, n bigint)")
    produce(connection, 100)
    workers = start_workers(APP, processes=2, slots=4)
    pids = set(workers.pids().values())
    chance = random.Random(1)
    for _ in range(4):
        produce_and_see_it_begin(connection)
        connection.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name like 'wakelog%%'"""
        )
        time.sleep(chance.random() * 0.2)
    check(connection, 500)
    # They have registered anew, and no process had to be replaced.
    until(lambda: set(workers.pids().values()) == pids)


def test_the_server_crashes_and_comes_back(
    crashable_server: ThrowawayPostgres, start_workers: Callable[..., Any]
) -> None:
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table effects (kind text, n bigint)")
        produce(connection, 300)
        workers = start_workers(APP, url=url, processes=2, slots=4)
        until(lambda: one(connection, COMPLETED) > 20)
        pids = set(workers.pids().values())
    crashable_server.crash()
    until(lambda: workers.said().count("connection was lost") >= 2)
    crashable_server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        produce(connection, 100)
        check(connection, 400)
        until(lambda: set(workers.pids().values()) == pids)


def test_a_handler_that_gets_no_connection_is_not_to_blame(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any]
) -> None:
    connection.execute("create role few_connections login in role wakelog_worker")
    try:
        connection.execute("create table effects (n bigint)")
        connection.execute("grant insert on effects to few_connections")
        workers = start_workers(
            """
            @app.agent("work", on="push", start="beginning", max_attempts=1)
            async def work(event, ctx):
                if event.payload: await ctx.connection.execute("insert into effects values (1)")
            """,
            url=database.replace("postgres@", "few_connections@"),
        )
        append(connection, "push")
        until(lambda: one(connection, "select count(*) from wakelog.history") == 1)
        connection.execute("alter role few_connections connection limit 0")
        append(connection, "push", payload={"writes": True})
        until(lambda: "work at 2: no connection to be had, given back" in workers.said())
        connection.execute("alter role few_connections connection limit -1")
        until(lambda: one(connection, "select count(*) from effects") == 1)
        until(lambda: one(connection, "select array_agg(attempts) from wakelog.history") == [1, 1])
        workers.stop()
    finally:
        connection.execute("drop owned by few_connections")
        connection.execute("drop role few_connections")


FULL = """
@app.agent("full", on="push", start="beginning", max_attempts=1)
async def full(event, ctx):
    if event.position > 1000 and not (folder / "quick").exists():
        await asyncio.sleep(0.3)
"""


def test_its_loss_is_noticed_while_there_is_enough_to_do(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    # So long a lease that no heartbeat tells of it meanwhile.
    workers = start_workers(FULL, slots=1, lease=300)
    produce(connection, 4000)
    until(lambda: one(connection, "select count(*) from wakelog.history") >= 1000)
    until(lambda: one(connection, "select count(*) from wakelog.deliveries where worker is not null") > 20)
    worker = one(connection, "select worker from wakelog.workers")
    connection.execute(
        """select pg_terminate_backend(l.pid) from pg_locks l
           where l.locktype = 'advisory' and l.classid = wakelog.lock_space('worker')::bigint::oid
             and l.objid = %s::bigint::oid""",
        [worker],
    )
    until(lambda: "starting anew" in workers.said())
    (tmp_path / "quick").touch()
    until(lambda: one(connection, "select count(*) from wakelog.history") == 4000)
