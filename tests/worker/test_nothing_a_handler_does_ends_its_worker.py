"""One agent's mistakes, and one event's oddities, stay its own: the process lives, and others' work goes on."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection
from tests.worker.asking import append, register, sequence
from tests.worker.waiting import one, until

APP = """
import sys

@app.agent("odd", on="odd", start="beginning", max_attempts=1, timeout=20)
async def odd(event, ctx):
    match event.payload:
        case "surrogate": raise FileNotFoundError(b"\\xff".decode("utf-8", "surrogateescape"))
        case "nul": raise ValueError("a\\x00b")
        case "cancelled":
            task = asyncio.ensure_future(asyncio.sleep(10))
            task.cancel()
            await task
        case "exit": sys.exit(3)
        case "give back" if ctx.event.metadata.get("once", True) and not (folder / "given").exists():
            (folder / "given").touch()
            raise GiveBack("soon")
        case "long": raise RetryAfter(1e300)

@app.agent("odd_sync", on="odd", start="beginning", max_attempts=1, timeout=20)
def odd_sync(event, ctx):
    match event.payload:
        case "surrogate": raise FileNotFoundError(b"\\xff".decode("utf-8", "surrogateescape"))
        case "exit": sys.exit(3)

@app.agent("patient", on="patient", start="beginning")
async def patient(event, ctx):
    while not (folder / "go").exists():
        await asyncio.sleep(0.02)
"""

ODDITIES = ("surrogate", "nul", "cancelled", "exit", "give back", "long")


def test_nothing_a_handler_does_ends_its_worker(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Any
) -> None:
    append(connection, "patient")
    workers = start_workers(APP, slots=8)
    until(lambda: one(connection, "select count(*) from wakelog.in_flight where agent = 'patient'"))
    (pid,) = workers.pids().values()
    for oddity in ODDITIES:
        append(connection, "odd", payload=oddity)
    ended = """select count(*) from (
        select agent from wakelog.dead_letters
        union all select a.name from wakelog.history h join wakelog.agents a on a.id = h.agent_id) e
        where agent <> 'patient'"""
    until(lambda: one(connection, ended) == 2 * len(ODDITIES))
    assert list(workers.pids().values()) == [pid]
    (tmp_path / "go").touch()
    until(lambda: one(connection, "select count(*) from wakelog.in_flight") == 0)
    assert one(connection, "select coalesce(sum(stalled), 0) from wakelog.history") == 0
    errors = dict(connection.execute(
        "select e.payload #>> '{}', d.error from wakelog.dead_letters d "
        "join wakelog.events e on e.id = d.event_id where d.agent = 'odd'"
    ).fetchall())  # fmt: skip
    assert set(errors) == {"surrogate", "nul", "cancelled", "exit", "long"}
    assert errors["exit"] == "SystemExit: 3"


def test_an_open_transaction_on_a_stream_holds_up_only_answers_to_that_stream(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any]
) -> None:
    workers = """
        @app.agent("to_the_stream", on="a", start="beginning")
        async def to_the_stream(event, ctx): ctx.emit("said", stream="s")

        @app.agent("stepping", on="b", start="beginning")
        async def stepping(event, ctx): return await ctx.step("one", dict)
    """
    with psycopg.connect(database) as hostage:
        hostage.execute("insert into wakelog.events (type, stream) values ('first', 's')")
        start_workers(workers)
        append(connection, "a", *["b"] * 20)
        done = "select count(*) from wakelog.events where type = %s"
        until(lambda: one(connection, done, "stepping.completed") == 20)
        assert one(connection, done, "said") == 0
        hostage.commit()
    until(lambda: one(connection, done, "said") == 1)
    assert one(connection, "select version from wakelog.events where type = 'said'") == 2
    until(lambda: one(connection, "select count(*) from wakelog.in_flight") == 0)
    assert one(connection, "select sum(attempts) from wakelog.history") == 21


def test_a_handler_that_holds_a_stream_can_still_take_its_steps(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Any
) -> None:
    start_workers("""
        from wakelog import append

        @app.agent("holder", on="a", start="beginning", timeout=30, max_attempts=1)
        async def holder(event, ctx):
            await append(ctx.connection, "held", stream="s")
            (folder / "held").touch()
            while not (folder / "other").exists():
                await asyncio.sleep(0.02)
            for n in range(20):
                await ctx.step(str(n), dict)
                await asyncio.sleep(0.05)

        @app.agent("other", on="b", start="beginning")
        async def other(event, ctx):
            ctx.emit("said", stream="s")
            (folder / "other").touch()
    """)
    append(connection, "a")
    until(lambda: (tmp_path / "held").exists())
    append(connection, "b")
    until(lambda: one(connection, "select count(*) from wakelog.events where type in ('held', 'said')") == 2)
    until(lambda: one(connection, "select count(*) from wakelog.history where outcome = 'completed'") == 2)
    assert one(connection, "select sum(attempts) from wakelog.history") == 2


def test_no_agent_starves_while_others_have_a_backlog(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    names = [f"agent_{n}" for n in range(6)]
    for name in names:
        register(connection, name, "#")
    append(connection, *["work"] * 400)
    sequence(connection)
    agent = """
@app.agent("{0}", on="#", start="beginning")
async def {0}(event, ctx): await asyncio.sleep(0.03)
"""
    start_workers("".join(agent.format(name) for name in names), slots=1)
    started = "select count(*) = 6 and min(cursor) > 0 from wakelog.lag"
    until(lambda: one(connection, started))
    assert one(connection, "select max(behind) > 0 from wakelog.lag"), "the backlog was gone too soon to tell"


def test_an_event_that_a_filter_cannot_judge_is_passed_over(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    append(connection, "a", payload={"at": "2025-05-05"})
    append(connection, "a", payload={"at": "2025-05-05T00:00:00+00:00"})
    workers = start_workers("""
        @app.agent("picky", on="a", start="beginning",
                   where='$.at.datetime() > "2024-01-01T00:00:00+00:00".datetime()')
        def picky(event, ctx): return 1

        @app.agent("other", on="a", start="beginning")
        def other(event, ctx): return 1
    """)
    until(lambda: one(connection, "select count(*) from wakelog.events where type = 'other.completed'") == 2)
    until(lambda: one(connection, "select count(*) from wakelog.events where type = 'picky.completed'") >= 1)
    assert len(workers.pids()) == 1


def test_what_a_handler_sets_on_its_connection_is_not_the_next_ones(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    start_workers("""
        from psycopg.rows import dict_row

        @app.agent("sets", on="a", start="beginning")
        async def sets(event, ctx):
            ctx.connection.row_factory = dict_row
            await ctx.connection.execute("set search_path = nowhere")
            await ctx.connection.execute("select pg_advisory_lock(42)")
            await ctx.connection.execute("create temp table mine ()")
            return 1

        @app.agent("finds", on="sets.completed", start="beginning")
        async def finds(event, ctx):
            row = await (await ctx.connection.execute(
                "select current_setting('search_path'), to_regclass('pg_temp.mine') is null, "
                "(select count(*) from pg_locks where locktype = 'advisory' and objid = 42)")).fetchone()
            return list(row)
    """, slots=1)  # fmt: skip
    append(connection, "a")
    found = "select payload from wakelog.events where type = 'finds.completed'"
    assert until(lambda: one(connection, found)) == ['"$user", public', True, 0]
