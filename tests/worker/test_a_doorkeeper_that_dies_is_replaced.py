import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection
from tests.worker.asking import append, sequence
from tests.worker.keeping import ASLEEP, DOORKEEPER, keeping
from tests.worker.waiting import Looking, one, until

from wakelog.testing import ThrowawayPostgres

ANSWERED = "select count(*) = %s from wakelog.events where type = 'echo.completed'"
HEAD = "select head from wakelog.sequencer"
IN_OFFICE = """
select count(*) from pg_locks where locktype = 'advisory' and granted
  and database = (select oid from pg_database where datname = current_database())
  and classid::int = wakelog.lock_space('doorkeeper')
"""
CANDIDATES = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'wakelog doorkeeper'
"""


def test_of_three_candidates_exactly_one_is_in_office(
    connection: Connection[Any], database: str, tmp_path: Path
) -> None:
    with keeping(database, tmp_path), keeping(database, tmp_path), keeping(database, tmp_path):
        until(lambda: one(connection, CANDIDATES) == 3)
        keeper = one(connection, DOORKEEPER)
        looked_until = time.monotonic() + 1.5
        while time.monotonic() < looked_until:
            assert (one(connection, IN_OFFICE), one(connection, DOORKEEPER)) == (1, keeper)
        append(connection, "push")
        until(lambda: one(connection, HEAD) == 1)


def test_another_takes_over_in_about_a_second_when_it_is_killed(
    connection: Connection[Any], database: str, tmp_path: Path
) -> None:
    with keeping(database, tmp_path) as first:
        killed = one(connection, DOORKEEPER)
        with keeping(database, tmp_path):
            until(lambda: one(connection, CANDIDATES) == 2)
            until(lambda: one(connection, ASLEEP))
            first.send_signal(signal.SIGKILL)
            at, looking = time.monotonic(), Looking()
            append(connection, "push")
            looking.until(lambda: one(connection, DOORKEEPER) not in (None, killed))
            looking.until(lambda: one(connection, HEAD) == 1)
            took = time.monotonic() - at - looking.late
            print(f"\nin office and at work after {took:.2f} s")
            assert took < 2.5


def test_its_backend_is_terminated_and_it_comes_back(
    connection: Connection[Any], database: str, tmp_path: Path
) -> None:
    with keeping(database, tmp_path) as process:
        until(lambda: one(connection, ASLEEP))
        before = one(connection, DOORKEEPER)
        connection.execute("select pg_terminate_backend(%s)", [before])
        append(connection, "push")
        until(lambda: one(connection, HEAD) == 1)
        assert one(connection, DOORKEEPER) != before
        assert process.poll() is None
        # And it hears again: this one is found far sooner than by a look a second.
        until(lambda: one(connection, ASLEEP))
        at, looking = time.monotonic(), Looking()
        append(connection, "push")
        looking.until(lambda: one(connection, HEAD) == 2, every=0.002)
        assert time.monotonic() - at - looking.late < 0.5


def test_while_it_is_frozen_the_workers_find_events_themselves(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    with keeping(database, tmp_path) as keeper:
        start_workers("""
            @app.agent("echo", on="ping", start="beginning")
            async def echo(event, ctx): return event.payload
        """)
        until(lambda: one(connection, ASLEEP))
        # Frozen asleep, holding office and beacon: appends notify it in vain.
        os.kill(keeper.pid, signal.SIGSTOP)
        for number in (1, 2, 3):
            at, looking = time.monotonic(), Looking()
            append(connection, "ping")
            looking.until(functools.partial(one, connection, ANSWERED, number))
            assert time.monotonic() - at - looking.late < 2.5
        os.kill(keeper.pid, signal.SIGCONT)
        until(lambda: one(connection, HEAD) == 6)


def test_a_restart_of_the_server_puts_one_back_in_office(
    crashable_server: ThrowawayPostgres, tmp_path: Path
) -> None:
    url = crashable_server.url()
    with keeping(url, tmp_path):
        with psycopg.connect(url) as connection:
            append(connection, "push")
        crashable_server.crash()
        crashable_server.start()
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: one(connection, DOORKEEPER))
            append(connection, "push")
            until(lambda: one(connection, HEAD) == 2)


def test_it_is_not_needed(connection: Connection[Any]) -> None:
    append(connection, "push")
    assert one(connection, DOORKEEPER) is None
    sequence(connection)
    assert one(connection, HEAD) == 1
