"""A cable is cut: neither side hears of it, and the server gives up a session that no longer answers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.hostile.effects import COMPLETED, TABLE, every_effect_once
from tests.hostile.networks import Namespace, network
from tests.worker.keeping import DOORKEEPER
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.connect import connect, connect_async
from wakelog.postgres.schema import install
from wakelog.testing import ThrowawayPostgres
from wakelog.worker.connections import HandlerConnections

# Whoever works on an event locks its row: another attempt waits until the server has let go of the first.
APP = """
    @app.agent("job", on="job.wanted", start="beginning", max_attempts=1)
    async def job(event, ctx):
        await ctx.connection.execute("update accounts set worked = worked + 1 where n = %s", [event.payload["n"]])
        await ctx.connection.execute("insert into effects values (%s)", [event.payload["n"]])
        await asyncio.sleep(0.5)
        return {"n": event.payload["n"]}
"""

WHERE_THE_DOORKEEPER_IS = """
select host(a.client_addr) from pg_stat_activity a join wakelog.horizon h on h.doorkeeper_pid = a.pid
"""
IN_HAND_THERE = """
select count(*) from wakelog.deliveries d join wakelog.worker_sessions w on w.id = d.worker
join pg_stat_activity a on a.pid = w.pid where host(a.client_addr) = %s
"""
GIVEN_UP_AFTER = "select current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with network() as made:
        yield made


@pytest.fixture
def reachable_server(namespace: Namespace, binaries: Binaries) -> Iterator[ThrowawayPostgres]:
    """A server that the namespace reaches."""
    with ThrowawayPostgres(binaries, settings={"listen_addresses": f"127.0.0.1,{namespace.here}"}) as server:
        with (Path(server.get_data_directory()) / "pg_hba.conf").open("a") as rules:
            rules.write(f"\nhost all all {namespace.here}/30 trust\n")
        with psycopg.connect(server.url()) as connection:
            connection.execute("select pg_reload_conf()")
            install(connection)
            connection.execute(TABLE)
            connection.execute(
                "create table accounts (n bigint primary key, worked bigint not null default 0)"
            )
            connection.execute("insert into accounts select generate_series(0, 99)")
        until(lambda: reaches(over_the_network(server, namespace)))  # from when the rules have been read
        yield server


def over_the_network(server: ThrowawayPostgres, namespace: Namespace) -> str:
    return server.url().replace("127.0.0.1", namespace.here)


def reaches(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_sessions_over_a_network_tell_the_server_when_to_give_up(
    namespace: Namespace, reachable_server: ThrowawayPostgres
) -> None:
    url = over_the_network(reachable_server, namespace)
    with connect(url, autocommit=False) as connection:
        connection.rollback()
        assert connection.execute(GIVEN_UP_AFTER).fetchone() == ("5", "10000")

    async def over_others() -> None:
        async with await connect_async(url) as connection:
            assert await (await connection.execute(GIVEN_UP_AFTER)).fetchone() == ("5", "10000")
        pool = HandlerConnections(url, pooled=False)
        for _ in range(2):  # the second one is the first, with what it had been told forgotten
            handlers = pool.take_async()
            assert await (await handlers.execute(GIVEN_UP_AFTER)).fetchone() == ("5", "10000")
            await pool.give_back(handlers, forgotten=False)
        await pool.close()

    asyncio.run(over_others())


@pytest.mark.soak
def test_another_takes_over_the_doors_and_the_deliveries(
    namespace: Namespace, reachable_server: ThrowawayPostgres, start_workers: Callable[..., Any]
) -> None:
    url = reachable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        there = start_workers(
            APP, url=over_the_network(reachable_server, namespace), lease=5, within=namespace.within
        )
        until(lambda: one(connection, WHERE_THE_DOORKEEPER_IS) == namespace.there)
        here = start_workers(APP, url=url, lease=5)

        produce(connection, range(50))
        until(
            lambda: one(connection, COMPLETED) > 10 and one(connection, IN_HAND_THERE, namespace.there) >= 4
        )
        namespace.cut()
        at = time.monotonic()
        keeper = one(connection, DOORKEEPER)
        produce(connection, range(50, 100))
        until(lambda: one(connection, WHERE_THE_DOORKEEPER_IS) == "127.0.0.1", within=30)
        print(f"\nanother in office {time.monotonic() - at:.1f} s after the cut")
        every_effect_once(connection, list(range(100)), within=30)
        print(f"all done {time.monotonic() - at:.1f} s after the cut")
        assert one(connection, DOORKEEPER) != keeper
        assert (
            one(
                connection,
                "select count(*) from pg_stat_activity where host(client_addr) = %s",
                namespace.there,
            )
            == 0
        )

        # Back again, it registers anew and changes nothing that was done without it.
        namespace.mend()
        until(lambda: len(there.pids()) == 2, within=30)
        every_effect_once(connection, list(range(100)))
        assert one(connection, "select count(*) from accounts where worked <> 1") == 0
        assert here.supervisor.poll() is None


def produce(connection: Connection[Any], numbers: range) -> None:
    for n in numbers:
        append(connection, "job.wanted", {"n": n})
