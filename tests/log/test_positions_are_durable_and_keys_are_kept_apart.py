"""What a session says of itself does not weaken the log: positions are durable, answers' keys are reserved."""

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from wakelog.errors import BadInput, translate


@pytest.fixture
def connection(database: str) -> Any:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def value(connection: psycopg.Connection[Any], query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_a_run_of_the_sequencer_is_durable_in_a_session_that_is_not(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute("set synchronous_commit = off")
    connection.execute("insert into wakelog.events (type) values ('a')")
    with connection.transaction():
        assert value(connection, "select wakelog.sequence()") == 1
        assert value(connection, "show synchronous_commit") == "on"
    assert value(connection, "show synchronous_commit") == "off"
    with connection.transaction():
        value(connection, "select wakelog.start_worker('w', array['a'])")
        assert value(connection, "show synchronous_commit") == "on"


def test_restored_events_are_not_sequenced_again_when_their_xids_come_round(
    connection: psycopg.Connection[Any],
) -> None:
    """Restored rows keep the xids of another cluster, which this one's counter reaches one day."""
    connection.execute("alter table wakelog.events disable trigger events_own_transaction")
    now = int(value(connection, "select pg_current_xact_id()::text::bigint"))
    for ahead in (3, 5, 7, 9):
        connection.execute("insert into wakelog.events (type, xid) values ('old', %s)", [str(now + ahead)])
    connection.execute("alter table wakelog.events enable trigger events_own_transaction")
    connection.execute("update wakelog.sequencer set system_identifier = 1")
    assert value(connection, "select wakelog.rebase()") == 4
    for _ in range(20):
        connection.execute("insert into wakelog.events (type) values ('new')")
        assert value(connection, "select wakelog.sequence()") == 1
    assert value(connection, "select count(*) = 24 and max(position) = 24 from wakelog.log_events")


@pytest.fixture
def writer(connection: psycopg.Connection[Any], database: str) -> Any:
    """A session of a login that may write and nothing else."""
    name = sql.Identifier(f"writer_of_{connection.info.dbname}")
    connection.execute(sql.SQL("create role {} login in role wakelog_writer").format(name))
    with psycopg.connect(database, autocommit=True, user=f"writer_of_{connection.info.dbname}") as writer:
        yield writer
    connection.execute(sql.SQL("drop role {}").format(name))


def test_a_writer_cannot_take_an_answers_key(writer: psycopg.Connection[Any]) -> None:
    for insert in (
        "insert into wakelog.events (type, source, idempotency_key) values ('x', 'a', 'wakelog:a/1/completed')",
        "select wakelog.append('x', p_source => 'a', p_idempotency_key => 'wakelog:a/1/completed')",
    ):
        with pytest.raises(psycopg.Error) as refused:
            writer.execute(insert)
        assert isinstance(translate(refused.value), BadInput)


def test_a_writer_learns_nothing_by_guessing_keys(
    writer: psycopg.Connection[Any], connection: psycopg.Connection[Any]
) -> None:
    connection.execute("select wakelog.append('paid', '{\"card\": 4242}', p_idempotency_key => 'evt_1')")
    again = "select id is not null, payload, metadata from wakelog.append('x', p_idempotency_key => 'evt_1')"
    assert writer.execute(again).fetchone() == (True, None, None)
    assert connection.execute(again).fetchone() == (True, {"card": 4242}, {})
