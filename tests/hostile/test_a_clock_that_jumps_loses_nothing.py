"""The server's clock jumps an hour forwards and back while workers work."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.hostile.effects import TABLE, every_effect_once
from tests.worker.asking import register, sequence
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import install
from wakelog.testing import ThrowawayPostgres

APP = """
    @app.agent("job", on="job.wanted", start="beginning", max_attempts=1, max_stalled=10)
    async def job(event, ctx):
        await ctx.connection.execute("insert into effects values (%s)", [event.payload["n"]])
        until = "turned" if event.payload["n"] < 20 else "back"
        while not (folder / until).exists():
            await asyncio.sleep(0.02)
        return {"n": event.payload["n"]}
"""

IN_HAND = "select count(*) from wakelog.deliveries where worker is not null"
HELD_FOR_AN_HOUR = """
select count(*) from wakelog.deliveries
where worker is not null and available_at > clock_timestamp() + interval '50 minutes'
"""


class Clock:
    """The clock of a whole server: what is said in its configuration reaches sessions that are open, too."""

    def __init__(self, server: ThrowawayPostgres, connection: Connection[Any]) -> None:
        self._settings = Path(server.get_data_directory()) / "postgresql.conf"
        self._connection = connection

    def turn(self, hours: int) -> None:
        """So many hours from what it should be."""
        with self._settings.open("a") as settings:
            settings.write(f"\nwakelog.clock_offset = '{hours} hours'\n")
        self._connection.execute("select pg_reload_conf()")
        turned = "select extract(hours from wakelog.clock() - clock_timestamp() + interval '1 minute')"
        until(lambda: one(self._connection, turned) == hours)


@pytest.fixture(scope="module")
def own_server(binaries: Binaries) -> Iterator[ThrowawayPostgres]:
    """A server whose configuration may be changed."""
    with ThrowawayPostgres(binaries) as server:
        yield server


@pytest.fixture
def url(own_server: ThrowawayPostgres, request: pytest.FixtureRequest) -> str:
    """A database of it with Wakelog's schema."""
    made = own_server.create_database(request.node.name[:60])
    with psycopg.connect(made) as connection:
        install(connection)
        connection.execute(TABLE)
    return made


@pytest.fixture
def connection(url: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock(own_server: ThrowawayPostgres, connection: Connection[Any]) -> Iterator[Clock]:
    clock = Clock(own_server, connection)
    yield clock
    clock.turn(0)


def produce(connection: Connection[Any], numbers: range) -> None:
    for n in numbers:
        append(connection, "job.wanted", {"n": n})


def test_all_is_done_once_and_no_lease_lasts_an_hour(
    url: str, connection: Connection[Any], clock: Clock, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    # What was taken from a worker when its lease seemed over, and nobody had room for, is free when it really is.
    workers = start_workers(APP, url=url, processes=2, lease=5)
    produce(connection, range(20))
    until(lambda: one(connection, IN_HAND) > 0)
    clock.turn(1)
    (tmp_path / "turned").touch()
    produce(connection, range(20, 60))
    until(lambda: one(connection, HELD_FOR_AN_HOUR) > 4)
    clock.turn(0)
    # One of the two dies with leases that have an hour to go; its death, not the clock, frees them.
    workers.kill(next(iter(workers.pids().values())))
    (tmp_path / "back").touch()
    produce(connection, range(60, 80))
    every_effect_once(connection, list(range(80)), within=15)

    places = connection.execute("select sequenced_at from wakelog.log order by position").fetchall()
    assert places == sorted(places), "positions and times go the same way"
    assert one(
        connection, "select max(sequenced_at) > clock_timestamp() + interval '50 minutes' from wakelog.log"
    )


def test_what_was_put_off_until_an_hour_comes_at_that_hour(connection: Connection[Any], clock: Clock) -> None:
    """The other side of it: a retry, or work given back, that was dated while the clock was ahead."""
    register(connection, "job", "job.wanted")
    worker = one(connection, "select wakelog.start_worker('a test', '{job}')")
    produce(connection, range(1))
    clock.turn(1)
    sequence(connection)
    claim = "select count(*) from wakelog.claim('job', %s, 10)"
    assert one(connection, claim, worker) == 1
    connection.execute("select wakelog.release('job', %s, '{1}', '{1}')", [worker])
    clock.turn(0)
    assert one(connection, claim, worker) == 0
    clock.turn(1)
    assert one(connection, claim, worker) == 1
