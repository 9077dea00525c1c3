"""A worker of the version before, its own code, goes on while the schema is upgraded under it, and afterwards.

previous/0011.tar.xz is what git archived of engine, cli, sql and migrations when 0011 was the newest revision. With
each released revision, the one before it takes its place.
"""

import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

from wakelog.postgres.schema import status, upgrade

PREVIOUS = Path(__file__).parent / "previous" / "0011.tar.xz"

AGENTS = """
@app.agent("writer", on="work", start="beginning", backoff=Fixed(0.05))
async def writer(event, ctx):
    await ctx.connection.execute("insert into effects values (%s, 'writer')", [event.position])
    await asyncio.sleep(0.01)
    if event.position % 7 == 0 and ctx.attempt == 1:
        raise ValueError("the first time")

@app.agent("stepper", on="work", start="beginning", backoff=Fixed(0.05))
async def stepper(event, ctx):
    step = await ctx.step("once", lambda: {"worker": os.getpid()})
    mark = folder / f"{event.position}"
    if event.position % 5 == 0 and not mark.exists():
        mark.touch()
        await ctx.extend("1m")
        raise GiveBack("50ms") if event.position % 2 else RetryAfter("50ms")
    return step

@app.agent("line", on="work", start="beginning", ordered_by="payload.key")
def line(event, ctx):
    ctx.connection.execute("insert into effects values (%s, 'line')", [event.position])
"""


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The code of the version before, unpacked."""
    folder = tmp_path / "previous"
    with tarfile.open(PREVIOUS) as archive:
        # Not by the argument, which Python has from 3.11.4 on.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder)
    return folder


def path_of(code: Path) -> str:
    return f"PYTHONPATH={code / 'engine'}{os.pathsep}{code / 'cli'}"


@pytest.fixture
def old_database(previous: Path, empty_database: str) -> str:
    """A database as the version before made it."""
    subprocess.run(
        ["env", path_of(previous), sys.executable, "-c",
         "import sys; from wakelog.postgres.schema import upgrade; upgrade(sys.argv[1])", empty_database],
        check=True,
    )  # fmt: skip
    assert status(empty_database).state == "old"
    return empty_database


@pytest.fixture
def producer(old_database: str) -> Iterator[Callable[[], int]]:
    """Appends without a pause, as applications do, from before the upgrade on; call it to stop: how many there are."""
    stop = threading.Event()
    count = 0
    errors: list[psycopg.Error] = []

    def produce() -> None:
        nonlocal count
        with psycopg.connect(old_database, autocommit=True) as connection:
            while not stop.wait(0.004):
                try:
                    connection.execute("select wakelog.append('work', %s)", [Jsonb({"key": count % 5})])
                except psycopg.Error as error:
                    errors.append(error)
                    return
                count += 1

    thread = threading.Thread(target=produce)
    thread.start()

    def end() -> int:
        stop.set()
        thread.join(20)
        assert errors == []
        return count

    yield end
    end()


def test_nothing_is_lost_doubled_or_complained_of(
    old_database: str,
    previous: Path,
    producer: Callable[[], int],
    start_workers: Callable[..., WorkerProcesses],
) -> None:
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(
            "create table effects (position bigint, agent text, at timestamptz default clock_timestamp())"
        )

        def finished() -> int:
            return one(connection, "select count(*) from wakelog.history")

        old = start_workers(AGENTS, url=old_database, processes=2, within=["env", path_of(previous)])
        until(lambda: finished() > 150)
        assert upgrade(old_database).state == "current"
        so_far = finished()
        until(lambda: finished() > so_far + 150)
        assert old.supervisor.poll() is None
        new = start_workers(AGENTS, url=old_database, processes=1)
        so_far = finished()
        until(lambda: finished() > so_far + 150)
        assert old.stop() == 0
        events = producer()
        until(lambda: finished() == 3 * events, within=60)

        repeated = "select count(*) from (select from effects group by position, agent having count(*) > 1) r"
        assert one(connection, repeated) == 0
        assert one(connection, "select count(*) from effects") == 2 * events
        out_of_order = """
            select count(*) from (
                select f.at < lag(f.at) over (partition by e.payload -> 'key' order by position) as early
                from effects f join wakelog.log_events e using (position) where f.agent = 'line') o
            where early"""
        assert one(connection, out_of_order) == 0
        assert one(connection, "select count(*) from wakelog.dead") == 0
    said = (old.said() + new.said()).splitlines()
    for number, line in enumerate(said):
        told = "\n".join(said[number : number + 60])
        # Where an upgrade takes longer than the half second for which a worker waits, the version before starts anew.
        assert "attempt 1 failed" in line or "lock timeout" in line or "WARNING" not in line, told
        assert "ERROR" not in line, told
        assert "Traceback" not in line, told
