"""The primary is gone for good and its standby takes over: workers find it, and nothing acknowledged is lost."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.cli.command import COMMAND
from tests.hostile.effects import APP, TABLE
from tests.hostile.standbys import Standby, either
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.testing import ThrowawayPostgres

FINISHED = "select count(*) from wakelog.history where outcome = 'completed'"
LOG = "select position, id from wakelog.log_events"
EFFECTS = "select n from effects order by n"


@pytest.fixture
def standby(crashable_server: ThrowawayPostgres) -> Iterator[Standby]:
    """Of `crashable_server`, and waited for by its commits."""
    with psycopg.connect(crashable_server.url()) as connection:
        connection.execute(TABLE)
    with Standby(crashable_server) as standby:
        standby.wait_for_it()
        yield standby


class Producer:
    """Appends without end, making a new connection whenever one breaks; what it was told, it remembers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0
        self.acknowledged: list[int] = []
        self.refused = 0

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                with psycopg.connect(self.url, autocommit=True) as connection:
                    while not stopping.wait(0.02):
                        self.asked += 1
                        append(connection, "job.wanted", {"n": self.asked})
                        self.acknowledged.append(self.asked)
            except psycopg.OperationalError:
                self.refused += 1
                stopping.wait(0.05)


@contextmanager
def producing(url: str) -> Iterator[Producer]:
    producer, stopping = Producer(url), threading.Event()
    thread = threading.Thread(target=producer.run, args=[stopping])
    thread.start()
    try:
        yield producer
    finally:
        stopping.set()
        thread.join()


def test_workers_go_on_by_themselves_and_nothing_acknowledged_is_lost(
    crashable_server: ThrowawayPostgres, standby: Standby, start_workers: Callable[..., Any]
) -> None:
    it_is_called_a_standby(standby.url())
    url = either(crashable_server, standby)
    workers = start_workers(APP, url=url, processes=2)
    with producing(url) as producer:
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: one(connection, FINISHED) > 20)
            log_before = connection.execute(LOG).fetchall()
            effects_before = connection.execute(EFFECTS).fetchall()
        crashable_server.crash()
        promised = len(producer.acknowledged)
        standby.promote()
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: len(producer.acknowledged) > promised + 20)
            finished = one(connection, FINISHED)
            until(lambda: one(connection, FINISHED) > finished + 20)

    with psycopg.connect(url, autocommit=True) as connection:
        all_was_kept(connection, producer, log_before, effects_before)
        # The same cluster, for which positions and transaction ids go on.
        assert not one(connection, "select wakelog.is_restored()")
        assert one(connection, "select rebased_seq from wakelog.sequencer") == 0
    assert producer.refused > 0
    assert workers.supervisor.poll() is None


def all_was_kept(
    connection: Connection[Any], producer: Producer, log_before: list[Any], effects_before: list[Any]
) -> None:
    """See that what was seen before is there, and that every event that was appended has its one effect."""
    appended = [
        n
        for (n,) in connection.execute(
            "select (payload ->> 'n')::int as n from wakelog.events where type = 'job.wanted' order by n"
        )
    ]
    # One that was refused may have been committed all the same, where the answer was lost.
    assert set(appended) >= set(producer.acknowledged)
    until(lambda: one(connection, FINISHED) >= len(appended))
    effects = connection.execute(EFFECTS).fetchall()
    assert [n for (n,) in effects] == appended
    assert set(effects_before) <= set(effects)
    log = connection.execute(LOG).fetchall()
    assert set(log_before) <= set(log)
    assert sorted(position for position, _ in log) == list(range(1, len(log) + 1))
    answers = "select count(*), count(distinct causation_id) from wakelog.events where type = 'job.completed'"
    assert connection.execute(answers).fetchone() == (len(appended), len(appended))
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert one(connection, "select count(*) from wakelog.deliveries") == 0


def it_is_called_a_standby(url: str) -> None:
    """See that whoever takes it for the primary is told what it is."""
    doctor = command("doctor", "--json", "--database", url)
    (found,) = [check for check in json.loads(doctor.stdout)["checks"] if check["check"] == "server"]
    assert (doctor.returncode, found["state"]) == (1, "fail")
    assert "a standby" in found["found"]
    for arguments in (["append", "a"], ["tail"], ["worker", "nothing.py"]):
        told = command(*arguments, "--database", url)
        assert told.returncode == 3, told.stderr
        assert "target_session_attrs=read-write" in told.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30)
