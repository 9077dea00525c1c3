"""Pace and expiry: never more starts in any window than the rate says; nothing too old is worked on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one, until

from wakelog import Rate, Wakelog
from wakelog.errors import BadInput

# When the worker took it in hand, and when its handler began. What comes too late is given back before that; in between
# there is nothing but a machine that may stand still.
APP = """
from wakelog.worker.delivery import Held

taken = {}

def start(held, work, start=Held.start):
    taken[work.deliveries[0].position] = time.time()
    start(held, work)

Held.start = start

@app.agent("paced", on="work", start="beginning", rate="10/s")
async def paced(event, ctx):
    with (folder / "starts").open("a") as file: file.write(f"{taken[event.position]} {time.time()}\\n")
    await asyncio.sleep(0.02)
"""


def most_in(window: float, times: list[float]) -> int:
    return max(sum(1 for other in times if start <= other < start + window) for start in times)


def test_ten_a_second_over_eight_processes_is_never_more(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, *["work"] * 45)
    start_workers(APP, processes=8, slots=4)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 45, within=30)
    starts = [tuple(map(float, line.split())) for line in (tmp_path / "starts").read_text().splitlines()]
    times = sorted(taken for taken, _ in starts)
    assert len(times) == 45
    assert most_in(1.0, times) <= 10
    assert median(began - taken for taken, began in starts) < 0.01
    assert times[-1] - times[0] < 12, "slower than it need be"
    assert one(connection, "select sum(attempts) from wakelog.history") == 45


BUSY = """
@app.agent("paced", on="work", start="beginning", rate="20/s")
async def paced(event, ctx): ...

@app.agent("busy", on="push", start="beginning")
async def busy(event, ctx):
    await asyncio.sleep(0.001)
"""


def test_it_is_reached_beside_an_agent_that_has_more_to_do_than_there_are_slots(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("insert into wakelog.events (type) select 'push' from generate_series(1, 40000)")
    append(connection, *["work"] * 200)
    start_workers(BUSY, slots=5)
    done = """select count(*) from wakelog.history h join wakelog.agents a on a.id = h.agent_id where a.name = %s"""
    until(lambda: one(connection, done, "paced") >= 50, within=40)
    assert one(connection, done, "busy") < 40000


def test_a_window_is_counted_over_all_workers(connection: Connection[Any]) -> None:
    register(connection, "paced", "work", rate={"count": 3, "window": 60})
    append(connection, *["work"] * 10)
    sequence(connection)
    first, second = start_worker(connection, "paced"), start_worker(connection, "paced")
    assert len(claim(connection, "paced", first, 2)) == 2
    (late, *_) = claim(connection, "paced", second, 10)
    fail(connection, "paced", second, late)
    assert claim(connection, "paced", first) == []
    assert connection.execute("select * from wakelog.ready_agents()").fetchall() == []
    connection.execute("set wakelog.clock_offset = '59 seconds'")
    assert claim(connection, "paced", first) == []
    connection.execute("set wakelog.clock_offset = '61 seconds'")
    assert len(claim(connection, "paced", first)) == 3
    connection.execute("set wakelog.clock_offset = '3 minutes'")
    claim(connection, "paced", first)
    assert one(connection, "select count(*) from wakelog.starts") == 3


def test_what_a_claim_hands_out_after_a_wait_begins_then(connection: Connection[Any], database: str) -> None:
    """Else a window that began with the wait would be over too early."""
    register(connection, "paced", "work", rate={"count": 3, "window": 60})
    append(connection, *["work"] * 5)
    sequence(connection)
    worker = start_worker(connection, "paced")
    lock = "select wakelog.lock_cursor(wakelog.agent_id('paced'))"
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as beside:
        other.execute(lock)
        claimed = beside.submit(claim, connection, "paced", worker)
        waits = "select exists (select from pg_stat_activity where pid = %s and wait_event_type = 'Lock')"
        with psycopg.connect(database, autocommit=True) as looking:
            until(lambda: one(looking, waits, connection.info.backend_pid))
            let_go = one(looking, "select clock_timestamp()")
        other.rollback()
        assert len(claimed.result()) == 3
    assert one(connection, "select min(started_at) from wakelog.starts") > let_go


@pytest.mark.parametrize(
    ("written", "count", "window"),
    [("10/s", 10, 1), ("100/m", 100, 60), ("5000/h", 5000, 3600), ("3/30s", 3, 30), (Rate(2, "1m"), 2, 60)],
)
def test_a_rate_is_read_as_written(written: str | Rate, count: int, window: float) -> None:
    assert Rate.of(written).rule() == {"count": count, "window": window}


@pytest.mark.parametrize("written", ["10", "/s", "ten/s", "10/", "0/s", "10/0s", "10/parsec"])
def test_what_is_no_rate_is_refused(written: str) -> None:
    with pytest.raises(BadInput, match='agent "a": expected'):
        Wakelog("t").agent("a", on="#", rate=written)(lambda event, ctx: None)


def test_what_is_too_old_is_given_up_untried(connection: Connection[Any]) -> None:
    register(connection, "fresh", "work", expires=60, backoff={"kind": "fixed", "delay": 90})
    append(connection, *["work"] * 3)
    sequence(connection)
    worker = start_worker(connection, "fresh")
    connection.execute("set wakelog.clock_offset = '30 seconds'")
    (once,) = claim(connection, "fresh", worker, 1)
    connection.execute("select wakelog.fail('fresh', %s, %s, %s, 'no luck')", [once[0], worker, once[1]])
    connection.execute("set wakelog.clock_offset = '3 minutes'")
    assert claim(connection, "fresh", worker) == []
    assert connection.execute(
        "select position, reason, attempts, error from wakelog.dead_letters order by position"
    ).fetchall() == [
        (1, "expired", 1, "the event was older than 00:01:00"),
        (2, "expired", 0, "the event was older than 00:01:00"),
        (3, "expired", 0, "the event was older than 00:01:00"),
    ]
    assert one(connection, "select count(*) from wakelog.events where type = 'fresh.failed'") == 3
    assert one(connection, "select count(*) from wakelog.deliveries") == 0
