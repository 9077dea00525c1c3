"""Whoever appends meanwhile, and whatever dies: seals follow each other, and each position is under exactly one."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integrity.tampering import fill
from tests.log.sessions import Sessions
from tests.worker.keeping import keeping
from tests.worker.waiting import one, until

from wakelog.integrity.sealing import seal_now
from wakelog.integrity.verification import verify
from wakelog.postgres.binaries import Binaries
from wakelog.testing import ThrowawayPostgres

Connection = psycopg.Connection[Any]

SEALED = "select coalesce(max(to_position), 0) from wakelog.seals"
UNSEALED = "select head - (select coalesce(max(to_position), 0) from wakelog.seals) from wakelog.sequencer"
HEAD = "select head from wakelog.sequencer"
NOBODY_SEALS = """
select not exists (select from pg_stat_activity
                   where application_name = 'wakelog sealer' and datname = current_database())
"""


def chained_and_covered(connection: Connection) -> None:
    """The seals are 1, 2, 3 ...; each begins behind the one before and carries its hash; all of them hold.

    The session of a killed sealer may be in the middle of a seal, which it commits: it is waited for.
    """
    until(lambda: one(connection, NOBODY_SEALS))
    broken = connection.execute(
        """select number from (
               select number, from_position, previous, row_number() over (order by number) as expected,
                      coalesce(lag(to_position) over (order by number), 0) + 1 as begins,
                      coalesce(lag(hash) over (order by number), decode(repeat('00', 32), 'hex')) as before
               from wakelog.seals) s
           where (number, from_position, previous) is distinct from (expected, begins, before)"""
    ).fetchall()
    assert broken == []
    seen = verify(connection)
    assert seen.finding is None
    assert seen.events == one(connection, SEALED)


@contextmanager
def producers(url: str, number: int = 4) -> Iterator[None]:
    """Append in transactions of one to twenty events, some of them rolled back, some slow, until this ends."""
    stop = threading.Event()

    def produce(seed: int) -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(url) as connection:
                    for turn in range(10**9):
                        if stop.is_set():
                            return
                        connection.execute(
                            "insert into wakelog.events (type, stream)"
                            " select 'tick', 's' || %s from generate_series(1, %s)",
                            [seed, 1 + turn % 20],
                        )
                        if turn % 7 == 3:
                            connection.rollback()
                        else:
                            connection.commit()
            except psycopg.OperationalError:
                time.sleep(0.02)  # the server is away

    with ThreadPoolExecutor(number) as threads:
        for seed in range(number):
            threads.submit(produce, seed)
        try:
            yield
        finally:
            stop.set()


def test_the_doorkeeper_seals_beside_concurrent_producers(
    connection: Connection, database: str, tmp_path: Path
) -> None:
    connection.execute("select wakelog.set_sealing(true, '20 ms')")
    with keeping(database, tmp_path):
        with producers(database):
            until(lambda: one(connection, "select count(*) >= 10 from wakelog.seals"))
        until(lambda: one(connection, UNSEALED) == 0 and one(connection, HEAD) > 0)
    chained_and_covered(connection)


def test_sealers_that_are_killed_leave_no_gap(connection: Connection, database: str, tmp_path: Path) -> None:
    connection.execute("select wakelog.set_sealing(true, '5 ms')")
    with producers(database, 2):
        for _ in range(2):
            with keeping(database, tmp_path) as keeper:
                before = one(connection, SEALED)
                until(lambda before=before: one(connection, SEALED) > before)
                os.kill(keeper.pid, signal.SIGKILL)
    chained_and_covered(connection)


def test_a_crash_of_the_server_leaves_no_gap(crashable_server: ThrowawayPostgres, tmp_path: Path) -> None:
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select wakelog.set_sealing(true, '5 ms')")
    with producers(url, 2):
        with keeping(url, tmp_path):
            with psycopg.connect(url, autocommit=True) as connection:
                until(lambda: one(connection, "select count(*) >= 5 from wakelog.seals"))
                known = connection.execute("select number, hash from wakelog.seals").fetchall()
            crashable_server.crash()
        crashable_server.start()
        with psycopg.connect(url, autocommit=True) as connection, keeping(url, tmp_path):
            # A seal that somebody has seen is not gone after the crash, nor another.
            still = connection.execute("select number, hash from wakelog.seals").fetchall()
            assert set(known) <= set(still)
            until(lambda: one(connection, "select count(*) > %s from wakelog.seals", len(still)))
    with psycopg.connect(url, autocommit=True) as connection:
        chained_and_covered(connection)


def test_two_sealers_at_once_take_turns(connection: Connection, database: str) -> None:
    connection.execute("insert into wakelog.events (type) select 'a' from generate_series(1, 2000)")
    connection.execute("select wakelog.sequence()")

    def seal(_: int) -> int:
        made = 0
        with psycopg.connect(database, autocommit=True) as sealer:
            while one(sealer, UNSEALED) > 0:
                made += one(sealer, "select wakelog.seal(50)") or 0
        return made

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(seal, range(4))) == 2000
    chained_and_covered(connection)


def test_a_sealer_waits_for_no_open_transaction_and_nobody_for_it(
    connection: Connection, database: str
) -> None:
    fill(connection, 20)
    with psycopg.connect(database) as appending, psycopg.connect(database) as sealing:
        appending.execute("insert into wakelog.events (type) values ('slow')")
        connection.execute("set lock_timeout = '1s'")
        assert one(sealing, "select wakelog.seal(10)") == 10
        # The seal is not committed yet: producers, the sequencer and readers go on.
        connection.execute("insert into wakelog.events (type) values ('quick')")
        assert one(connection, "select wakelog.sequence()") == 1
        assert one(connection, "select wakelog.seal(10)") is None
        sealing.commit()
    assert sum(seal_now(connection)) == 11


def test_sealing_can_be_turned_off_and_on(connection: Connection, database: str, tmp_path: Path) -> None:
    connection.execute("select wakelog.set_sealing(false, '5 ms')")
    fill(connection, 5)
    asks = "select max(query_start) from pg_stat_activity where application_name = 'wakelog sealer' and datname = %s"
    name = one(connection, "select current_database()")
    with keeping(database, tmp_path):
        first = until(lambda: one(connection, asks, name))
        until(lambda: one(connection, asks, name) > first)
        assert one(connection, SEALED) == 0
        connection.execute("select wakelog.set_sealing(true)")
        until(lambda: one(connection, SEALED) == 5)


def test_seals_are_not_changed_by_mistake(log: Connection) -> None:
    log.execute("set local session_replication_role = origin")
    for statement in (
        "update wakelog.seals set sealed_at = now()", "delete from wakelog.seals", "truncate wakelog.seals"
    ):  # fmt: skip
        with pytest.raises(psycopg.Error, match="the log is append-only"), log.transaction():
            log.execute(statement.encode())


def test_a_restored_and_rebased_log_still_verifies(
    server: ThrowawayPostgres, binaries: Binaries, connection: Connection, database: str
) -> None:
    fill(connection, 30)
    assert list(seal_now(connection)) == [30]
    fill_more = "insert into wakelog.events (type) select 'later' from generate_series(1, 5)"
    connection.execute(fill_more.encode())
    dump = subprocess.run(
        [binaries.program("pg_dump"), database], check=True, capture_output=True, text=True
    ).stdout
    with ThrowawayPostgres(binaries) as other:
        subprocess.run(
            [binaries.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", other.url()],
            input="create role wakelog_writer; create role wakelog_reader; create role wakelog_worker;"
            f"create role wakelog_keys;{dump}",
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        with psycopg.connect(other.url(), autocommit=True) as restored:
            assert verify(restored).finding is None
            assert one(restored, "select wakelog.rebase()") == 5
            assert list(seal_now(restored)) == [5]
            chained_and_covered(restored)


@pytest.fixture
def session(database: str) -> Iterator[Sessions]:
    sessions = Sessions(database)
    yield sessions
    sessions.close()


def test_a_worker_may_seal_and_a_writer_may_not(connection: Connection, session: Sessions) -> None:
    fill(connection, 1)
    worker, writer = session(), session()
    worker.execute("set role wakelog_worker")
    writer.execute("set role wakelog_writer")
    for statement in (
        b"select wakelog.seal()",
        b"select * from wakelog.seals",
        b"select wakelog.set_sealing(false)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute(statement)
    assert one(worker, "select wakelog.seal()") == 1
    assert verify(worker).events == 1
    for statement in (b"select wakelog.set_sealing(false)", b"delete from wakelog.seals"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(statement)
