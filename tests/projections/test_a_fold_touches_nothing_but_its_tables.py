"""A projection's function has no effects elsewhere: it may write to its own tables, and may not end its transaction."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.testing import LogUnderTest, NotIdle

Fold = Callable[[Any, psycopg.Connection], object]

FORBIDDEN: dict[str, Fold] = {
    "writes elsewhere": lambda e, c: c.execute("insert into public.other values (1)"),
    "updates elsewhere": lambda e, c: c.execute("update public.other set n = 2"),
    "truncates": lambda e, c: c.execute("truncate public.other"),
    "makes tables": lambda e, c: c.execute("create table public.another (n int)"),
    "draws numbers": lambda e, c: c.execute("select nextval('public.numbers')"),
    "appends events": lambda e, c: c.execute("insert into wakelog.events (type) values ('effect')"),
    "commits": lambda e, c: c.commit(),
    "rolls back": lambda e, c: c.rollback(),
    "sends commit": lambda e, c: (c.execute("insert into mine values (1)"), c.execute("commit")),
    "sends rollback": lambda e, c: (c.execute("rollback"), c.execute("insert into mine values (1)")),
}
ALLOWED: dict[str, Fold] = {
    "its tables": lambda e, c: c.execute("insert into mine values (1)"),
    "savepoints": lambda e, c: in_a_savepoint(c),
    "temporary tables": lambda e, c: c.execute(
        "create temp table if not exists scratch (n int) on commit drop"
    ),
    "reading": lambda e, c: c.execute("select * from public.other"),
}


def in_a_savepoint(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("insert into mine values (1)")
    with connection.transaction(force_rollback=True):
        connection.execute("insert into public.other values (3)")


def run(database: str, fold: Fold) -> None:
    app = Wakelog("test")
    app.projection("mine", on="a", tables="create table mine (n int)")(fold)
    with LogUnderTest(database) as log:
        log.connection.execute("create table public.other (n int); insert into public.other values (1)")
        log.connection.execute("create sequence public.numbers")
        log.append("a")
        log.run_until_idle(app)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_it_is_stopped_with_nothing_done(connection: psycopg.Connection, database: str, what: str) -> None:
    with pytest.raises(NotIdle, match="stopped at 1"):
        run(database, FORBIDDEN[what])
    assert connection.execute("select n from public.other").fetchall() == [(1,)]
    assert one(connection, "select count(*) from wakelog.events") == 1
    assert one(connection, "select to_regclass('public.another')") is None
    assert one(connection, "select position from wakelog.projection_status") == 0
    schema = one(connection, "select schema from wakelog.projection_status")
    mine = sql.SQL("select * from {}.mine").format(sql.Identifier(schema))
    assert connection.execute(mine).fetchall() == []


@pytest.mark.parametrize("what", ALLOWED)
def test_what_it_needs_it_may(connection: psycopg.Connection, database: str, what: str) -> None:
    run(database, ALLOWED[what])
    assert connection.execute("select n from public.other").fetchall() == [(1,)]
    assert one(connection, "select position from wakelog.projection_status where state = 'serving'") == 1
