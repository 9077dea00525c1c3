"""Behind a real pgbouncer in transaction mode LISTEN is accepted and silent, and session locks are anybody's."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg import Connection
from tests.cli.command import COMMAND
from tests.hostile.effects import APP, TABLE, every_effect_once
from tests.worker.waiting import one, until

from wakelog.log.append import append
from wakelog.postgres.listen import probe_listen


def test_listen_is_accepted_and_silent(connection: Connection[Any], pooled: str) -> None:
    with psycopg.connect(pooled, autocommit=True) as ears:
        ears.execute("listen anything")
        connection.execute("notify anything")
        assert list(ears.notifies(timeout=0.5, stop_after=1)) == []
    assert not probe_listen(pooled).works


def test_a_worker_notices_says_so_and_delivers_everything_once(
    connection: Connection[Any], pooled: str, start_workers: Callable[..., Any]
) -> None:
    connection.execute(TABLE)
    workers = start_workers(APP, url=pooled, processes=2)

    def produce(producer: int) -> None:
        with psycopg.connect(pooled, prepare_threshold=None) as producing:
            for n in range(producer * 25, producer * 25 + 25):
                append(producing, "job.wanted", {"n": n})
                producing.commit()

    with ThreadPoolExecutor(4) as producers:
        list(producers.map(produce, range(4)))
    every_effect_once(connection, list(range(100)))
    assert "LISTEN does not work here" in workers.said()
    assert "polling instead" in workers.said()
    # What it cannot keep through a pooler it does not claim to have.
    assert one(connection, "select bool_or(locked) from wakelog.worker_sessions") is False

    # And once more when all had been asleep: polling is what finds it.
    until(lambda: one(connection, "select bool_and(asleep) from wakelog.workers where alive"))
    with psycopg.connect(pooled) as producing:
        append(producing, "job.wanted", {"n": 100})
    every_effect_once(connection, list(range(101)))


def test_doctor_says_what_is_wrong_and_what_to_do(pooled: str) -> None:
    ended = subprocess.run(
        [*COMMAND, "doctor", "--json", "--database", pooled],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (listen,) = (found for found in json.loads(ended.stdout)["checks"] if found["check"] == "listen")
    assert listen["state"] == "warn"
    assert "pooler" in listen["found"]
    assert "direct connection" in listen["do"]
