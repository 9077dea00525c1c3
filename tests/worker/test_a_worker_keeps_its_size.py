"""A worker is as large after a million deliveries as it was after the first hundred thousand."""

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog.measuring.deliveries import drain, fill, pause

Connection = psycopg.Connection[Any]

APP = """
import gc, sys

@app.agent("nothing", on="work", start="beginning", max_attempts=2, backoff=Fixed(0))
async def nothing(event, ctx):
    if event.payload["n"] % 100 == 0 and ctx.attempt == 1:
        raise ValueError("again")

@app.agent("weigh", on="weigh", start="beginning")
async def weigh(event, ctx):
    gc.collect()
    return {"blocks": sys.getallocatedblocks()}
"""


def weighed(connection: Connection) -> int:
    """Blocks of memory that Python has given out in the worker, when it has nothing else to do."""
    before = one(connection, "select count(*) from wakelog.events where type = 'weigh.completed'")
    connection.execute("insert into wakelog.events (type) values ('weigh')")
    until(
        lambda: one(connection, "select count(*) from wakelog.events where type = 'weigh.completed'") > before
    )
    return one(
        connection,
        """select (payload ->> 'blocks')::int from wakelog.events where type = 'weigh.completed'
           order by seq desc limit 1""",
    )


def work(connection: Connection, count: int) -> None:
    fill(connection, "work", count)
    until(
        lambda: one(
            connection,
            """select not exists (select from wakelog.ready_agents())
                  and not exists (select from wakelog.deliveries)""",
        ),
        within=600,
    )


def test_no_delivery_leaves_anything_behind(connection: Connection, start_workers: StartWorkers) -> None:
    start_workers(APP, slots=10)
    work(connection, 2000)
    weighed(connection)
    before = weighed(connection)
    work(connection, 8000)
    # An object kept for each delivery would be 8,000 blocks, for each failure 80.
    assert weighed(connection) - before < 1000


@pytest.mark.soak
def test_a_million_deliveries(connection: Connection, start_workers: StartWorkers) -> None:
    workers = start_workers(APP.replace("% 100 == 0", "< 0"), slots=10)
    (pid,) = workers.pids().values()
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc, to ask how large a process is")

    def megabytes() -> float:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    pause(connection)
    after = fill(connection, "work", 1_000_000)
    connection.execute("vacuum analyze wakelog.events, wakelog.log")
    drain(connection, after, upto=after + 100_000)
    early = megabytes()
    began = time.monotonic()
    drain(connection, after, patience=1200)
    late = megabytes()
    print(
        f"{early:.1f} MB after 100,000 deliveries, {late:.1f} MB after 1,000,000, "
        f"{time.monotonic() - began:.0f} s later"
    )
    assert late < early + 4
