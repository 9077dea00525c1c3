"""Runners killed at random, the server crashed in mid-fold: what is left is the fold of the log, exactly once."""

import random
import time
from functools import partial

import psycopg
import pytest
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog.testing import ThrowawayPostgres

# Slow enough to be in the middle of something whenever it is killed.
SLOW = folds.PER_BATCH.replace(
    "with connection.cursor() as cursor:", "time.sleep(0.02)\n        with connection.cursor() as cursor:"
)


def folded(connection: psycopg.Connection) -> int:
    return one(connection, "select position from wakelog.checkpoints")


def folded_beyond(connection: psycopg.Connection, position: int) -> bool:
    return folded(connection) > position


def kill_at_random(connection: psycopg.Connection, start_workers: StartWorkers, url: str, kills: int) -> None:
    workers = start_workers(folds.app(SLOW), processes=2, lease=5)
    until(
        lambda: one(connection, "select count(*) from wakelog.projection_status where runner_pid is not null")
    )
    with Producers(url):
        for _ in range(kills):
            time.sleep(random.uniform(0.05, 0.4))
            alive = until(workers.pids)
            workers.kill(random.choice(list(alive.values())))
            # Another takes over in about a second: the state waited for is that somebody folds on.
            before = one(connection, "select min(position) from wakelog.checkpoints")
            until(
                lambda before=before: (
                    one(connection, "select min(position) from wakelog.checkpoints") > before
                )
            )
    folds.until_caught_up(connection)
    assert folds.rows(connection) == folds.by_hand(connection)


def test_sigkill_at_random_points(
    connection: psycopg.Connection, start_workers: StartWorkers, database: str
) -> None:
    kill_at_random(connection, start_workers, database, 3)


@pytest.mark.soak
def test_sigkill_at_many_random_points(
    connection: psycopg.Connection, start_workers: StartWorkers, database: str
) -> None:
    kill_at_random(connection, start_workers, database, 40)


def test_a_server_that_crashes(crashable_server: ThrowawayPostgres, start_workers: StartWorkers) -> None:
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        folds.count(connection, range(3000))
    start_workers(folds.app(SLOW), url=url)
    for _ in range(2):
        with psycopg.connect(url, autocommit=True) as connection:
            folds.count(connection, range(2000))
            until(partial(folded_beyond, connection, folded(connection)))
        crashable_server.crash()
        crashable_server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        folds.until_caught_up(connection, within=40)
        assert folds.rows(connection) == folds.by_hand(connection)
        assert one(connection, "select sum(events) from totals.totals") == 7000
