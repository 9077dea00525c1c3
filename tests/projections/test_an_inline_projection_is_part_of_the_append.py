"""An inline projection is folded in the transaction that appends: it is read at once, and rolled back with it."""

import threading
from functools import partial

import psycopg
import pytest
from tests.cli.command import Wakelog as Command
from tests.cli.conftest import bare, wakelog
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.waiting import one, until

from wakelog import BadInput, Wakelog, append_many, wait_until
from wakelog.projections.builds import register
from wakelog.testing import LogUnderTest

__all__ = ["bare", "wakelog"]


def declared(version: int = 1, statement: str = folds.SQL) -> Wakelog:
    app = Wakelog("test")
    app.projection("totals", sql=statement, tables=folds.SQL_TABLES, mode="inline", version=version)
    return app


def serve(database: str, version: int = 1) -> None:
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(version))


def served(database: str, version: int = 1) -> bool:
    """Whether no append was open for so long that there was no moment for it."""
    try:
        serve(database, version)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def test_what_is_written_can_be_read_before_the_commit(connection: psycopg.Connection, database: str) -> None:
    folds.count(connection, range(100))
    serve(database)
    with connection.transaction(force_rollback=True):
        connection.execute(
            'insert into wakelog.events (type, payload) values (\'counted\', \'{"key": "k1", "n": 1000}\')'
        )
        assert one(connection, "select events from totals.totals where key = 'k1'") == 21
    assert one(connection, "select events from totals.totals where key = 'k1'") == 20
    folds.count(connection, range(50))
    assert folds.rows(connection) == folds.sums_by_hand(connection)
    assert wait_until(connection, "totals") == 150


def test_every_way_to_append_is_seen(connection: psycopg.Connection, database: str) -> None:
    serve(database)
    many = [{"type": "counted", "payload": {"key": "k", "n": n}} for n in range(300)]
    append_many(connection, many)  # COPY
    append_many(connection, [{**one_, "idempotency_key": str(n)} for n, one_ in enumerate(many[:3])])
    append_many(connection, [{**one_, "idempotency_key": str(n)} for n, one_ in enumerate(many[:3])])
    connection.execute('select wakelog.append(\'counted\', \'{"key": "k", "n": 7}\')')
    connection.execute("select wakelog.sequence()")
    assert folds.rows(connection) == folds.sums_by_hand(connection)
    assert one(connection, "select events from totals.totals") == 304


def test_it_takes_over_from_its_history_without_gap_or_double(
    connection: psycopg.Connection, database: str, wakelog: Command
) -> None:
    folds.count(connection, range(500))
    with Producers(database):
        for version in (1, 2, 3):
            until(partial(served, database, version))
        assert wakelog("projection", "rebuild", "totals").code == 0
        assert wakelog("projection", "verify", "totals").code == 0
    connection.execute("select wakelog.sequence()")
    assert folds.rows(connection) == folds.sums_by_hand(connection)


def test_an_append_that_stays_open_is_waited_for_and_no_longer_than_a_moment(
    connection: psycopg.Connection, database: str
) -> None:
    with psycopg.connect(database) as slow:
        slow.execute(
            'insert into wakelog.events (type, payload) values (\'counted\', \'{"key": "k", "n": 1}\')'
        )
        with pytest.raises(psycopg.errors.LockNotAvailable):
            serve(database)
        folds.count(connection, range(10))  # nobody waits behind it
        slow.commit()
    serve(database)
    assert folds.rows(connection) == folds.sums_by_hand(connection)
    assert one(connection, "select sum(events) from totals.totals") == 11


def test_a_poison_event_stops_it_and_no_producer(
    connection: psycopg.Connection, database: str, wakelog: Command
) -> None:
    serve(database)
    folds.count(connection, range(10))
    connection.execute(
        'insert into wakelog.events (type, payload) values (\'counted\', \'{"key": "k", "n": "none"}\')'
    )
    folds.count(connection, range(10))
    assert one(connection, "select count(*) from wakelog.events") == 21
    status = wakelog("projection", "list").out
    assert "stopped at 11" in status
    assert "wakelog projection rebuild totals" in status
    assert one(connection, "select sum(events) from totals.totals") == 10
    assert wakelog("projection", "rebuild", "totals").code == 1
    mended = folds.SQL.replace("where type", "where jsonb_typeof(payload -> 'n') = 'number' and type")
    with LogUnderTest(database) as log:
        log.run_until_idle(declared(2, mended))
    assert one(connection, "select sum(events) from totals.totals") == 20


def test_producers_of_the_same_rows_wait_for_each_other_and_lose_nothing(
    connection: psycopg.Connection, database: str
) -> None:
    serve(database)

    def produce() -> None:
        with psycopg.connect(database, autocommit=True) as own:
            for n in range(50):
                own.execute(
                    """insert into wakelog.events (type, payload)
                       values ('counted', jsonb_build_object('key', 'k', 'n', %s::int))""",
                    [n],
                )

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folds.rows(connection) == [("k", 200, 4 * 1225)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": True}, "only SQL runs in any producer"),
        ({"sql": folds.SQL, "on_error": "skip"}, 'on_error "stop" for mode inline'),
    ],
)
def test_what_would_not_be_sound_is_refused(options: dict[str, object], expected: str) -> None:
    app = Wakelog("test")
    with pytest.raises(BadInput, match=expected):
        app.projection("totals", tables=folds.SQL_TABLES, mode="inline", **options)(  # pyright: ignore
            lambda events, connection: None
        )


def test_a_statement_that_needs_positions_is_refused_at_once(
    connection: psycopg.Connection, database: str
) -> None:
    statement = "insert into totals select 'k', 1, position from new_events"
    with pytest.raises(BadInput, match='"position" does not exist'):
        register(connection, declared(1, statement).projections["totals"])


def test_it_is_for_the_owner_of_the_events_to_declare(connection: psycopg.Connection, database: str) -> None:
    connection.execute("create role declarer in role wakelog_worker")
    try:
        name = connection.info.dbname
        connection.execute(f"grant create on database {name} to declarer".encode())
        connection.execute("set role declarer")
        number = register(connection, declared().projections["totals"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select wakelog.serve_build(%s)", [number])
    finally:
        connection.execute("reset role; drop owned by declarer; drop role declarer")
