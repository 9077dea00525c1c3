from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import Connection
from tests.worker.asking import append
from tests.worker.waiting import one, until

APP = """
import psycopg

def write(n): return ("insert into effects (kind, n) values (%s, %s)", n)

@app.agent("async", on="push", start="beginning", max_attempts=1)
async def in_async(event, ctx):
    kind = event.payload["kind"]
    connection = ctx.connection
    assert isinstance(connection, psycopg.AsyncConnection) and connection is ctx.connection
    if kind == "block":
        # What a psycopg user writes; it must not commit by itself.
        async with connection.transaction():
            await connection.execute("insert into effects values (%s, 'async')", [kind])
        raise ValueError("after the block")
    await connection.execute("insert into effects values (%s, 'async')", [kind])
    match kind:
        case "fails": raise ValueError("after writing")
        case "swallows":
            try: await connection.execute("select 1 / 0")
            except psycopg.Error: pass
        case "recovers":
            try:
                async with connection.transaction(): await connection.execute("select 1 / 0")
            except psycopg.Error: pass
        case "deferred": await connection.execute("insert into deferred values (1), (1)")
        case "autocommit": await connection.set_autocommit(True)
        case "closes": await connection.close()
    return kind

@app.agent("sync", on="push", start="beginning", max_attempts=1)
def in_sync(event, ctx):
    kind = event.payload["kind"]
    connection = ctx.connection
    assert isinstance(connection, psycopg.Connection) and connection is ctx.connection
    if kind == "block":
        with connection.transaction():
            connection.execute("insert into effects values (%s, 'sync')", [kind])
        raise ValueError("after the block")
    connection.execute("insert into effects values (%s, 'sync')", [kind])
    match kind:
        case "fails": raise ValueError("after writing")
        case "swallows":
            try: connection.execute("select 1 / 0")
            except psycopg.Error: pass
        case "recovers":
            try:
                with connection.transaction(): connection.execute("select 1 / 0")
            except psycopg.Error: pass
        case "deferred": connection.execute("insert into deferred values (1), (1)")
        case "autocommit": connection.autocommit = True
        case "closes": connection.close()
    return kind
"""

ERRORS = {
    "fails": "ValueError: after writing",
    "block": "ValueError: after the block",
    "swallows": "the handler went on after an error in its transaction, which is aborted",
    "deferred": "UniqueViolation: duplicate key value violates unique constraint",
    "autocommit": "ProgrammingError: can't change 'autocommit' now",
    "closes": "the handler closed its connection",
}


def test_effects_answer_and_acknowledgement_are_one_commit(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (kind text, handler text)")
    connection.execute("create table deferred (n int unique deferrable initially deferred)")
    kinds = ["writes", "recovers", *ERRORS, "writes again"]
    for kind in kinds:
        append(connection, "push", payload={"kind": kind})
    workers = start_workers(APP)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 2 * len(ERRORS))
    until(lambda: one(connection, "select count(*) from wakelog.history") == 6)
    effects = connection.execute("select kind, handler from effects order by 1, 2").fetchall()
    good = ["recovers", "writes", "writes again"]
    assert effects == [(kind, handler) for kind in good for handler in ("async", "sync")]
    # One transaction: the effect, the answer and the record of the delivery carry its id.
    apart = one(
        connection,
        """select count(*) from effects f
           join wakelog.events e on e.type = f.handler || '.completed' and e.payload #>> '{}' = f.kind
           join wakelog.agents a on a.name = f.handler
           join wakelog.events cause on cause.id = e.causation_id
           join wakelog.log l on l.seq = cause.seq
           join wakelog.history h on h.agent_id = a.id and h.position = l.position
           where f.xmin::text = e.xid::text and h.xmin = f.xmin""",
    )
    assert apart == 6
    errors = connection.execute("select payload ->> 'kind', error from wakelog.dead_letters").fetchall()
    for kind, error in errors:
        assert ERRORS[kind] in error, kind
    assert one(connection, "select count(*) from wakelog.workers") == 1
    assert workers.supervisor.poll() is None


def test_a_transaction_whose_lease_was_lost_is_not_committed(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    connection.execute("create table effects (attempt int)")
    append(connection, "push")
    workers = start_workers("""
        @app.agent("work", on="push", start="beginning")
        async def work(event, ctx):
            await ctx.connection.execute("insert into effects values (%s)", [ctx.attempt])
            (folder / f"wrote {ctx.attempt}").touch()
            while not (folder / f"go on {ctx.attempt}").exists(): await asyncio.sleep(0.01)
            return ctx.attempt
    """)
    until((tmp_path / "wrote 1").exists)
    # As the database takes a delivery away from a worker that it believes dead.
    connection.execute("update wakelog.deliveries set available_at = clock_timestamp()")
    until((tmp_path / "wrote 2").exists)
    (tmp_path / "go on 1").touch()
    until(lambda: 'no longer holds attempt 1 of agent "work" at position 1' in workers.said())
    assert one(connection, "select count(*) from effects") == 0
    (tmp_path / "go on 2").touch()
    until(lambda: one(connection, "select payload from wakelog.events where type = 'work.completed'") == 2)
    assert connection.execute("select attempt from effects").fetchall() == [(2,)]
