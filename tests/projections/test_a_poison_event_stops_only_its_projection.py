"""An event that cannot be folded stops its projection before it, or is skipped and recorded; the others go on."""

from typing import Any

import psycopg
import pytest
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import Wakelog
from wakelog.testing import LogUnderTest, NotIdle

POISON = (
    'insert into wakelog.events (type, payload) values (\'counted\', \'{"key": "bad", "n": "no number"}\')'
)
WAYS: dict[str, dict[str, Any]] = {"event": {}, "batch": {"batch": True}, "sql": {"sql": folds.SQL}}


def declared(way: str, **options: Any) -> Wakelog:
    app = Wakelog("test")
    declare = app.projection("totals", on="counted", tables=folds.SQL_TABLES, **WAYS[way], **options)
    one_of_them = """
        insert into totals values (%s, 1, %s)
        on conflict (key) do update set events = totals.events + 1, sum = totals.sum + excluded.sum
    """
    if way == "event":

        @declare
        def fold(event: Any, connection: psycopg.Connection) -> None:
            connection.execute(one_of_them, [event.payload["key"], int(event.payload["n"])])

    elif way == "batch":

        @declare
        def fold_all(events: Any, connection: psycopg.Connection) -> None:
            for event in events:
                connection.execute(one_of_them, [event.payload["key"], int(event.payload["n"])])

    return app


def poisoned(connection: psycopg.Connection) -> None:
    folds.count(connection, range(137))
    connection.execute(POISON)
    connection.execute("select wakelog.sequence()")
    folds.count(connection, range(60))


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_right_before_it(connection: psycopg.Connection, database: str, way: str) -> None:
    poisoned(connection)
    with LogUnderTest(database) as log, pytest.raises(NotIdle, match="stopped at 138"):
        log.run_until_idle(declared(way))
    status = connection.execute(
        "select position, failed_position, failed_type, error, schema from wakelog.projection_status"
    ).fetchone()
    assert status is not None
    assert status[:3] == (137, 138, "counted")
    assert "no number" in status[3]
    assert folds.rows(connection, status[4]) == folds.sums_by_hand(connection, 137)


@pytest.mark.parametrize("way", WAYS)
def test_or_skips_and_records_it(connection: psycopg.Connection, database: str, way: str) -> None:
    poisoned(connection)
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(way, on_error="skip"))
    connection.execute("select wakelog.projection_id('totals')")
    skipped = connection.execute(
        """select l.position, k.error from wakelog.projection_skips k join wakelog.log l on l.seq = k.seq"""
    ).fetchall()
    assert [position for position, _ in skipped] == [138]
    assert "no number" in skipped[0][1]
    assert sum(row[1] for row in folds.rows(connection)) == 197


@pytest.mark.parametrize("skip", [True, False])
def test_resumed_it_goes_on(connection: psycopg.Connection, database: str, skip: bool) -> None:
    poisoned(connection)
    with LogUnderTest(database) as log:
        with pytest.raises(NotIdle):
            log.run_until_idle(declared("event"))
        assert one(connection, "select wakelog.resume_projection('totals', %s)", skip) == 1
        if skip:
            log.run_until_idle(declared("event"))
            assert sum(row[1] for row in folds.rows(connection)) == 197
        else:
            with pytest.raises(NotIdle, match="stopped at 138"):
                log.run_until_idle(declared("event"))


def test_the_others_go_on(connection: psycopg.Connection, start_workers: StartWorkers) -> None:
    poisoned(connection)
    start_workers(
        folds.app(folds.PER_EVENT)
        + f"""
    app.projection("sums", sql={folds.SQL!r}, tables={folds.SQL_TABLES!r})
    """
    )
    until(lambda: one(connection, "select error from wakelog.projection_status where projection = 'sums'"))
    folds.until_caught_up(connection)
    assert sum(row[1] for row in folds.rows(connection)) == 198


def test_a_deadlock_is_nobodys_fault(connection: psycopg.Connection, database: str) -> None:
    folds.count(connection, range(10))
    app = Wakelog("test")
    failures = 2

    @app.projection("totals", on="counted", tables=folds.TABLES)
    def fold(event: Any, connection: psycopg.Connection) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            connection.execute("do $$ begin raise exception 'try again' using errcode = '40P01'; end $$")

    with LogUnderTest(database) as log:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DeadlockDetected):
                log.run_until_idle(app)
        log.run_until_idle(app)
    assert one(connection, "select error from wakelog.projection_status") is None
