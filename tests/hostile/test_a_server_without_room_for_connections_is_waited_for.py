"""All of max_connections is taken by others: workers try again until there is room, producers are told by Postgres."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.hostile.effects import APP, COMPLETED, TABLE, every_effect_once
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.errors import DatabaseUnreachable
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.connect import connect
from wakelog.postgres.schema import install
from wakelog.testing import ThrowawayPostgres

ROOM = 16
OURS = "select count(*) from pg_stat_activity where starts_with(application_name, 'wakelog')"


@pytest.fixture
def small_server(binaries: Binaries) -> Iterator[ThrowawayPostgres]:
    """A server of the test's own that takes few connections."""
    settings = {
        "max_connections": str(ROOM),
        "superuser_reserved_connections": "1",
    }
    with ThrowawayPostgres(binaries, settings=settings) as server:
        with psycopg.connect(server.url()) as connection:
            install(connection)
        yield server


def take_all_room(url: str, taken: list[Connection[Any]]) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(url, application_name="others"))


def test_workers_outlive_it_and_nothing_is_lost(
    small_server: ThrowawayPostgres, start_workers: Callable[..., Any]
) -> None:
    url = small_server.url()
    with (
        psycopg.connect(url, autocommit=True) as connection,
        psycopg.connect(url, autocommit=True) as producer,
    ):
        connection.execute(TABLE)
        workers = start_workers(APP, url=url, slots=2)
        pids = set(workers.pids().values())
        for n in range(50):
            append(producer, "job.wanted", {"n": n})
        until(lambda: one(connection, COMPLETED) > 0)

        # The worker's connections are ended, and others are quicker.
        taken: list[Connection[Any]] = []
        take_all_room(url, taken)

        def all_taken() -> bool:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where starts_with(application_name, 'wakelog')"
            )
            take_all_room(url, taken)
            return one(connection, OURS) == 0 and len(taken) == ROOM - 2

        until(all_taken)
        until(lambda: "sorry, too many clients" in workers.said())

        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients"):
            psycopg.connect(url)
        with pytest.raises(DatabaseUnreachable, match="sorry, too many clients"):
            connect(url)
        # Who is connected appends as ever.
        done = one(connection, COMPLETED)
        for n in range(50, 100):
            append(producer, "job.wanted", {"n": n})
        assert one(connection, COMPLETED) == done

        for other in taken:
            other.close()
        every_effect_once(connection, list(range(100)))
        assert set(workers.pids().values()) == pids, "no process had to be replaced"
