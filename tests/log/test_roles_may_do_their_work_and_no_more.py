"""wakelog_writer inserts, wakelog_reader looks, wakelog_worker does the work; nothing else is theirs."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.log.sessions import Sessions, insert, sequence, value

from wakelog.log.append import append, append_many
from wakelog.log.read import read, read_stream

As = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def as_role(session: Sessions) -> As:
    def connect(role: str) -> psycopg.Connection[Any]:
        connection = session()
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        return connection

    return connect


def test_a_writer_appends_in_every_way(as_role: As, observer: psycopg.Connection[Any]) -> None:
    writer = as_role("wakelog_writer")
    writer.execute("insert into wakelog.events (type, stream) values ('a', 's')")
    append(writer, "a", stream="s", expected_version=1)
    append(writer, "a", idempotency_key="k")
    append(writer, "a", idempotency_key="k")
    append_many(writer, [{"type": "a"}, {"type": "a", "idempotency_key": "k2"}])
    assert value(observer, "select count(*) from wakelog.events") == 5


@pytest.mark.parametrize("column", ["seq", "xid", "recorded_at"])
def test_a_writer_does_not_say_when_and_in_what_order(as_role: As, column: str) -> None:
    writer = as_role("wakelog_writer")
    statement = sql.SQL("insert into wakelog.events (type, {}) {} values ('a', {})").format(
        sql.Identifier(column),
        sql.SQL("overriding system value" if column == "seq" else ""),
        sql.Literal("now" if column == "recorded_at" else "3"),
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(statement)


@pytest.mark.parametrize(
    "query",
    [
        "select * from wakelog.events",
        "select * from wakelog.log",
        "select wakelog.sequence()",
        "select * from wakelog.claim('a', 1)",
        "select wakelog.lock_stream('s')",
        "insert into wakelog.log values (1, 1, 1, now())",
        "select nextval('wakelog.events_seq_seq')",
    ],
)
def test_a_writer_does_nothing_else(as_role: As, query: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("wakelog_writer").execute(query.encode())


def test_a_reader_reads_everything(as_role: As, observer: psycopg.Connection[Any]) -> None:
    insert(observer, stream="s")
    sequence(observer)
    reader = as_role("wakelog_reader")
    assert len(list(read(reader, types="thing.*"))) == 1
    assert len(list(read_stream(reader, "s"))) == 1
    relations = observer.execute(
        "select c.relname from pg_class c"
        " where c.relnamespace = 'wakelog'::regnamespace and c.relkind in ('r', 'p', 'v')"
        # Keys are for wakelog_keys alone.
        " and c.relname <> 'subject_keys'"
    ).fetchall()
    for (relation,) in relations:
        reader.execute(sql.SQL("select * from wakelog.{}").format(sql.Identifier(relation)))


@pytest.mark.parametrize(
    "query",
    [
        "insert into wakelog.events (type) values ('a')",
        "select wakelog.append('a')",
        "select wakelog.sequence()",
    ],
)
def test_a_reader_writes_nothing(as_role: As, query: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("wakelog_reader").execute(query.encode())


def test_a_worker_works_through_functions_alone(as_role: As) -> None:
    worker = as_role("wakelog_worker")
    worker.execute("select wakelog.register_agent('a', '{\"types\": [\"#\"]}')")
    append(worker, "b", {"n": 1})
    assert sequence(worker) == 1
    id = value(worker, "select wakelog.start_worker('w', '{a}', false)")
    position, attempt = worker.execute(
        "select position, attempt from wakelog.claim('a', %s)", [id]
    ).fetchone() or (0, 0)
    worker.execute("select wakelog.ack('a', %s, %s::bigint, %s::integer)", [id, position, attempt])
    for change in ["delete from wakelog.deliveries", "update wakelog.cursors set position = 0"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(change.encode())


def test_nobody_else_does_anything(session: Sessions, observer: psycopg.Connection[Any]) -> None:
    observer.execute("create role passer_by")
    try:
        connection = session()
        connection.execute("set role passer_by")
        for query in ["select wakelog.append('a')", "select * from wakelog.events", "select wakelog.clock()"]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query.encode())
    finally:
        observer.execute("drop role passer_by")
