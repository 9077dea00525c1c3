"""A new version is built beside the old one, which serves meanwhile; then it takes its place, and no reader notices."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.conftest import StartWorkers
from tests.worker.processes import write_app
from tests.worker.waiting import one, until

from wakelog import BadInput, Wakelog
from wakelog.agents.load import load_app
from wakelog.projections.builds import register
from wakelog.projections.rebuilding import copy_build
from wakelog.testing import LogUnderTest

BUILDING = "select position from wakelog.projection_status where version = 2 and state = 'building'"


class Readers:
    """Some that read all the time; what they could not read, or had to wait for, is in `failures`."""

    def __init__(self, url: str, how_many: int = 2) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._read) for _ in range(how_many)]

    def _read(self) -> None:
        seen = 0
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("set lock_timeout = '2s'")
            while not self._stopping.is_set():
                try:
                    events = one(connection, "select coalesce(sum(events), 0)::int from totals.totals")
                    if events < seen:
                        self.failures.append(f"{events} events after {seen}")
                    seen = events
                except psycopg.Error as error:
                    self.failures.append(str(error))
                time.sleep(0.001)

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def built_to_the_end(connection: psycopg.Connection) -> bool:
    return one(connection, BUILDING) == one(connection, "select head from wakelog.sequencer")


def test_while_several_append_and_read(
    connection: psycopg.Connection, start_workers: StartWorkers, database: str
) -> None:
    folds.count(connection, range(500))
    old = start_workers(folds.app(folds.PER_BATCH))
    folds.until_caught_up(connection)
    start_workers(folds.app(folds.PER_BATCH, version=2))
    # Old code serves until it is gone, though the new one has caught up, and again after more events.
    until(partial(built_to_the_end, connection))
    folds.count(connection, range(10))
    until(partial(built_to_the_end, connection))
    with Producers(database), Readers(database) as readers:
        before = one(connection, "select head from wakelog.sequencer")
        until(
            lambda: one(connection, "select min(position) from wakelog.checkpoints") > before + 100, within=60
        )
        assert one(connection, "select version from wakelog.projection_status where state = 'serving'") == 1
        old.stop()
        until(
            lambda: (
                one(connection, "select version from wakelog.projection_status where state = 'serving'") == 2
            ),
            within=60,
        )
    folds.until_caught_up(connection, version=2, within=60)
    assert readers.failures == []
    assert folds.rows(connection) == folds.by_hand(connection)
    until(lambda: one(connection, "select count(*) from wakelog.projection_builds") == 1)
    assert one(connection, "select count(*) from pg_namespace where nspname ~ '^totals'") == 1


def test_readers_wait_for_nothing_while_somebody_reads_on(
    connection: psycopg.Connection, database: str
) -> None:
    folds.count(connection, range(100))
    with LogUnderTest(database) as log, psycopg.connect(database) as open_reader:
        log.run_until_idle(declared(1))
        open_reader.execute("select * from totals.totals")  # and its transaction stays open
        with Readers(database) as readers:
            for version in range(2, 8):
                log.run_until_idle(declared(version))
        assert open_reader.execute("select sum(events) from totals.totals").fetchone() == (100,)
    assert readers.failures == []


def declared(version: int, **options: object) -> Wakelog:
    app = Wakelog("test")
    app.projection(
        "totals",
        sql=folds.SQL,
        tables=folds.SQL_TABLES,
        version=version,
        **options,  # pyright: ignore
    )
    return app


def test_other_columns_are_there_from_one_moment_to_the_next(
    connection: psycopg.Connection, database: str
) -> None:
    folds.count(connection, range(100))
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(1))
        app = Wakelog("test")
        app.projection(
            "totals", sql="insert into average select avg((payload ->> 'n')::int) from new_events",
            tables="create table average (of_all numeric)", version=2,
        )  # fmt: skip
        log.run_until_idle(app)
    assert one(connection, "select of_all from totals.average") == pytest.approx(49.5)
    assert one(connection, "select to_regclass('totals.totals')") is None


def test_what_was_granted_and_what_reads_it_elsewhere_stays(
    connection: psycopg.Connection, database: str
) -> None:
    folds.count(connection, range(100))
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(1))
        connection.execute("create view public.dashboard as select sum(events) as events from totals.totals")
        connection.execute("create role analyst")
        try:
            connection.execute(
                "grant usage on schema totals to analyst; grant select on totals.totals to analyst"
            )
            log.run_until_idle(declared(2))
            folds.count(connection, range(11))
            log.run_until_idle(declared(2))
            assert one(connection, "select events from public.dashboard") == 111
            connection.execute("set role analyst")
            assert one(connection, "select sum(events) from totals.totals") == 111
        finally:
            connection.execute("reset role; drop owned by analyst; drop role analyst")


def test_an_older_application_leaves_a_newer_version_alone(
    connection: psycopg.Connection, database: str
) -> None:
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(2))
        log.run_until_idle(declared(1))
    assert connection.execute("select version, state from wakelog.projection_builds").fetchall() == [
        (2, "serving")
    ]


def test_none_begins_to_make_an_older_one_anew_while_a_newer_takes_over(
    connection: psycopg.Connection, database: str
) -> None:
    folds.count(connection, range(100))
    with LogUnderTest(database) as log, psycopg.connect(database, autocommit=True) as rebuilding:
        log.run_until_idle(declared(1))
        old = one(connection, "select build from wakelog.projection_status")
        new = register(connection, declared(2).projections["totals"])
        with ThreadPoolExecutor() as threads:
            with connection.transaction():
                connection.execute("select wakelog.hold_serving(%s)", [new])
                begun = threads.submit(copy_build, rebuilding, old)
                until(
                    lambda: one(
                        log.connection, "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s",
                        rebuilding.info.backend_pid,
                    )
                )  # fmt: skip
                connection.execute("select wakelog.project_once(%s)", [new])
                assert one(connection, "select wakelog.serve_build(%s)", new)
            with pytest.raises(BadInput, match="another has taken its place"):
                begun.result(10)
    assert connection.execute("select version, state from wakelog.projection_builds order by 1").fetchall() == [
        (1, "retired"), (2, "serving"),
    ]  # fmt: skip


def test_another_fold_under_the_same_version_is_refused(
    connection: psycopg.Connection, database: str
) -> None:
    register(connection, declared(1).projections["totals"])
    app = Wakelog("test")
    app.projection("totals", sql="delete from totals", tables=folds.SQL_TABLES)
    with pytest.raises(BadInput, match="Raise its version to 2"):
        register(connection, app.projections["totals"])


def test_a_schema_that_is_somebody_elses_is_refused(connection: psycopg.Connection, database: str) -> None:
    with pytest.raises(BadInput, match="schema of its own"):
        register(connection, declared(1, schema="public").projections["totals"])
    assert one(connection, "select count(*) from wakelog.projections") == 0


def test_though_the_log_grows_faster_than_it_folds(
    connection: psycopg.Connection, start_workers: StartWorkers, database: str, tmp_path: Path
) -> None:
    folds.count(connection, range(300))
    path = write_app(tmp_path / "old.py", dedent(folds.app(folds.PER_BATCH)))
    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(str(path)))
    # A hundred events take it longer than a hundred more take to be appended.
    slow = folds.PER_BATCH.replace(
        "with connection", "time.sleep(len(events) * 0.003)\n        with connection", 1
    )
    with Producers(database):
        start_workers(folds.app(slow, version=2))
        until(
            lambda: (
                one(connection, "select version from wakelog.projection_status where state = 'serving'") == 2
            ),
            within=60,
        )
        # It does so while the log grows on.
        until(
            lambda: (
                one(connection, "select behind from wakelog.projection_status where state = 'serving'") > 0
            )
        )
