"""Sessions that work during an upgrade see no error of it: no deadlock, no function that is gone while it is called."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.log.sessions import value, waiting_for_a_lock
from tests.schema.dumps import dump
from tests.schema.first_schema import make_first_schema

from wakelog.errors import WakelogError
from wakelog.postgres import migration
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import replay_sql, status, upgrade

OLD_APPEND = """
select e.type from wakelog.append(
    'a', '{}', null::text, null::bigint, '', null::text, '{}', null::text, null::uuid, 1, null::timestamptz, null::uuid
) as e
"""
SET_ASIDE = "select count(*) from pg_proc where proname = 'append_set_aside'"


@pytest.fixture
def old_database(empty_database: str) -> str:
    make_first_schema(empty_database)
    return empty_database


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[None]:
    """The work goes on in a thread; what it raises is raised at the end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize(
    "first_touched",
    [
        "select from wakelog.agents",  # as an acknowledgement that then appends
        "select from wakelog.deliveries",
        "select from wakelog.lag",
    ],
)
def test_there_is_no_deadlock_for_anybody(old_database: str, first_touched: str) -> None:
    with psycopg.connect(old_database) as working, psycopg.connect(old_database, autocommit=True) as observer:
        working.execute(first_touched.encode())
        with meanwhile(lambda: upgrade(old_database)):
            waiting_for_a_lock(observer)
            for _ in range(3):  # longer than deadlock_timeout in all
                working.execute("insert into wakelog.events (type) values ('a')")
                working.execute("select pg_sleep(0.1)")
            working.commit()
        assert value(observer, "select count(*) from wakelog.events") == 3
    assert status(old_database).state == "current"


def test_one_whose_tables_stay_waits_for_no_reader(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "LOCK_TIMEOUT", "set local lock_timeout = '200ms'")
    with psycopg.connect(database) as reading:
        reading.execute("select from wakelog.events, wakelog.log, wakelog.deliveries")
        with psycopg.connect(database) as changing:
            changing.execute("comment on schema wakelog is 'Wakelog 0.0.1, functions 0123456789abcdef'")
        assert upgrade(database).state == "current"


def test_a_table_that_stays_busy_is_named_when_the_upgrade_gives_up(
    old_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "LOCK_TIMEOUT", "set local lock_timeout = '500ms'")
    with psycopg.connect(old_database) as working:
        working.execute("select from wakelog.cursors")
        began = time.monotonic()
        with pytest.raises(WakelogError, match=r"not granted within 500ms: lock table wakelog\.cursors"):
            upgrade(old_database)
        assert time.monotonic() - began < 5
    assert status(old_database).current == "0001"


@pytest.mark.every_postgres
def test_a_call_of_a_function_that_goes_comes_to_its_end(
    old_database: str, database: str, binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        psycopg.connect(old_database, autocommit=True) as appending,
        psycopg.connect(old_database, autocommit=True) as observer,
    ):
        called = threading.Event()

        def replay() -> str:
            called.set()
            waiting_for_a_lock(observer)
            return replay_sql()

        monkeypatch.setattr(migration, "replay_sql", replay)
        with meanwhile(lambda: upgrade(old_database)):
            called.wait(20)
            assert appending.execute(OLD_APPEND).fetchone() == ("a",)
        monkeypatch.undo()
        assert value(appending, OLD_APPEND) == "a"

        # What it was called by stays for a while, and goes with the next upgrade, whether that has more to do or not.
        assert value(observer, SET_ASIDE) == 1
        upgrade(old_database)
        assert value(observer, SET_ASIDE) == 1
        a_minute_passes(observer)
        upgrade(old_database)
        assert value(observer, SET_ASIDE) == 0
        assert dump(binaries, old_database) == dump(binaries, database)


def a_minute_passes(connection: Connection[Any]) -> None:
    """For what has been set aside."""
    connection.execute(
        """do $$ begin execute format('comment on function %s is %L',
                                      (select oid::regprocedure from pg_proc where proname = 'append_set_aside'),
                                      clock_timestamp() - interval '61 seconds'); end $$"""
    )
