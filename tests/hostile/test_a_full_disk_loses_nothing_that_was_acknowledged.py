"""The disk fills up while producers append and workers work; once there is room again, all goes on."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.hostile.disks import SmallDisk, small_disk
from tests.hostile.effects import TABLE
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import install
from wakelog.testing import ThrowawayPostgres

# A handler whose own statement finds the disk full has failed, as with any error; so it may try again.
APP = """
    @app.agent("job", on="job.wanted", start="beginning", backoff=Fixed(0.2), max_attempts=1000, max_stalled=1000)
    async def job(event, ctx):
        await asyncio.sleep(0.02)
        await ctx.connection.execute("insert into effects values (%s)", [event.payload["n"]])
        return {"n": event.payload["n"]}
"""

REFUSALS = 20


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Room for a small server, and little more."""
    with small_disk(megabytes=160) as made:
        yield made


@pytest.fixture
def cramped_server(
    disk: SmallDisk, binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThrowawayPostgres]:
    """A server whose data lie on that disk."""
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk.folder))
        server = ThrowawayPostgres(
            binaries, durable=True, settings={"min_wal_size": "32MB", "max_wal_size": "32MB"}
        )
    with server:
        with psycopg.connect(server.url()) as connection:
            install(connection)
            connection.execute(TABLE)
        yield server


class Producer:
    """Appends events, and remembers which the server has acknowledged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0
        self.acknowledged: list[int] = []
        self.refusals: list[str] = []

    def append(self, times: int) -> None:
        """Append so many, each over a connection that may have to be made anew; refusals are kept."""
        connection: psycopg.Connection[Any] | None = None
        for _ in range(times):
            self.asked += 1
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(self.url, autocommit=True, connect_timeout=5)
                append(connection, "job.wanted", {"n": self.asked, "ballast": os.urandom(2000).hex()})
                self.acknowledged.append(self.asked)
            except psycopg.OperationalError as refusal:
                self.refusals.append(str(refusal))
        if connection is not None:
            connection.close()


def use_up_the_wal(url: str) -> str:
    """Write into it until that fails, which ends the server as a crash does; what was said then."""
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                connection.execute("select pg_logical_emit_message(false, 'test', repeat('x', 1 << 20))")
    except psycopg.OperationalError as error:
        return str(error)


def is_up(server: ThrowawayPostgres) -> bool:
    """Whether it answers. One that found no room for its own recovery has ended, and is started again."""
    assert server.child_process is not None
    if server.child_process.poll() is not None:
        server.crash()
        server.start()
    return server.is_server_available()


@pytest.mark.parametrize("wal", [False, True], ids=["tables cannot grow", "the WAL cannot grow"])
def test_workers_and_the_server_go_on_when_there_is_room_again(
    disk: SmallDisk, cramped_server: ThrowawayPostgres, start_workers: Callable[..., Any], wal: bool
) -> None:
    url = cramped_server.url()
    # What ends while not even its end can be written down is held until its lease runs out.
    workers = start_workers(APP, url=url, lease=2)
    producer = Producer(url)
    producer.append(100)
    assert len(producer.acknowledged) == 100

    disk.fill()
    if wal:
        panic = use_up_the_wal(url)
        print(f"\n{panic}")
    until(lambda: producer.append(20) or len(producer.refusals) >= REFUSALS, within=30)
    print(f"\n{len(producer.acknowledged)} acknowledged; the first refusal: {producer.refusals[0][:100]}")
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        print(one(connection, "select count(*) from wakelog.deliveries"), "deliveries in hand or waiting")
    disk.empty()
    until(lambda: is_up(cramped_server))
    before = len(producer.acknowledged)
    until(lambda: producer.append(10) or len(producer.acknowledged) >= before + 10)

    with psycopg.connect(url, autocommit=True) as connection:
        # An append that was refused may have been committed all the same, where the answer was lost.
        appended = {
            n
            for (n,) in connection.execute(
                "select (payload ->> 'n')::int from wakelog.events where type = 'job.wanted'"
            )
        }
        assert appended >= set(producer.acknowledged)
        completed = "select count(*) from wakelog.history where outcome = 'completed'"
        until(lambda: one(connection, completed) >= len(appended), within=30)
        effects = [n for (n,) in connection.execute("select n from effects order by n")]
        assert effects == sorted(appended)
        answers = (
            "select count(*), count(distinct causation_id) from wakelog.events where type = 'job.completed'"
        )
        assert connection.execute(answers).fetchone() == (len(appended), len(appended))
        assert one(connection, "select count(*) from wakelog.dead") == 0
        assert one(connection, "select count(*) from wakelog.deliveries") == 0
    assert workers.supervisor.poll() is None
