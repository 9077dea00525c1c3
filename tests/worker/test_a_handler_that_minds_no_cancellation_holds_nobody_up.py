"""A handler may catch what ends it, and return, fail, or clean up for long: its worker stops and goes on as ever."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.worker.waiting import one, until

Connection = psycopg.Connection[Any]

STUBBORN = """
@app.agent("stubborn", on="push", start="beginning", max_attempts=3, backoff=Fixed(60))
async def stubborn(event, ctx):
    (folder / f"begun {event.position}").touch()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if HOW == "fails":
            raise RuntimeError("cleaning up failed")
        return "never mind"
"""
HELD = "select count(*) from wakelog.deliveries where worker is not null"


def begun(folder: Path) -> int:
    return len(list(folder.glob("begun *")))


def push(connection: Connection, count: int) -> None:
    connection.execute("insert into wakelog.events (type) select 'push' from generate_series(1, %s)", [count])
    connection.execute("select wakelog.sequence()")


@pytest.mark.parametrize("how", ["returns", "fails"])
def test_its_worker_stops(
    connection: Connection, start_workers: Callable[..., Any], tmp_path: Path, how: str
) -> None:
    push(connection, 2)
    workers = start_workers(f"HOW = '{how}'\n{STUBBORN}", slots=3, grace=1)
    until(lambda: begun(tmp_path) == 2)
    workers.supervisor.send_signal(signal.SIGTERM)
    assert workers.supervisor.wait(12) == 0
    assert one(connection, HELD) == 0
    assert one(connection, "select count(*) from wakelog.workers") == 0
    assert "killed" not in workers.said()


def test_its_worker_begins_anew_after_a_lost_connection(
    connection: Connection, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    push(connection, 2)
    start_workers(f"HOW = 'returns'\n{STUBBORN}", slots=3, lease=5)
    until(lambda: begun(tmp_path) == 2)
    worker = one(connection, "select worker from wakelog.workers")
    terminate = """
        select pg_terminate_backend(l.pid) from pg_locks l
        where l.locktype = 'advisory' and l.classid = wakelog.lock_space('worker')::bigint::oid
          and l.objid = %s::bigint::oid"""
    assert one(connection, terminate, worker)
    until(lambda: one(connection, "select bool_or(alive) from wakelog.workers where worker > %s", worker))


SLOW_TO_CLEAN_UP = """
@app.agent("slow", on="push", start="beginning", timeout=0.3, max_attempts=1)
async def slow(event, ctx):
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        try:
            await asyncio.sleep(600)  # cleaning up, until the watchdog has had enough of it
        except asyncio.CancelledError:
            pass

@app.agent("next", on="pull", start="beginning", max_attempts=1)
async def next_one(event, ctx):
    (folder / f"cancelling {asyncio.current_task().cancelling()}").touch()
    waits_for = asyncio.ensure_future(asyncio.sleep(600))
    waits_for.cancel()
    await waits_for
"""


def test_what_it_did_not_mind_is_not_the_next_ones(
    connection: Connection, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    start_workers(SLOW_TO_CLEAN_UP, slots=1)
    push(connection, 1)
    dead = "select count(*) from wakelog.dead_letters where agent = %s and error like %s"
    until(lambda: one(connection, "select count(*) = 1 from wakelog.history") and one(connection, HELD) == 0)
    for n in (1, 2):
        connection.execute("select wakelog.append('pull')")
        until(lambda n=n: one(connection, dead, "next", "%CancelledError%") == n)
    assert [path.name for path in tmp_path.glob("cancelling *")] == ["cancelling 0"]
