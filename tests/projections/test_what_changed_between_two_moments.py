"""What is otherwise between two moments: rows added, removed and changed, and nothing else."""

from typing import Any

import psycopg
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.projections.changes import changes_between
from wakelog.projections.runner import catch_up

Connection = psycopg.Connection[Any]


def test_rows_are_added_removed_and_changed(connection: Connection) -> None:
    for schema, rows in (
        ("earlier", "(1, 'a', 1), (2, 'b', null), (3, 'c', 3)"),
        ("now", "(2, 'b', 5), (3, 'c', 3), (4, 'd', 4)"),
    ):
        connection.execute(f"create schema {schema}")  # type: ignore[arg-type]
        connection.execute(f"create table {schema}.t (a int, b text, c int, primary key (b, a))")  # type: ignore[arg-type]
        connection.execute(f"insert into {schema}.t values {rows}")  # type: ignore[arg-type]
        connection.execute(f"create table {schema}.heap (n int, doc json)")  # type: ignore[arg-type]
    connection.execute("insert into earlier.heap values (1), (1), (2), (null)")
    connection.execute("insert into now.heap values (1), (2), (2), (null)")
    found = [
        (one.table, one.was, one.now, one.columns) for one in changes_between(connection, "earlier", "now")
    ]
    assert found == [
        ("heap", {"n": 1, "doc": None}, None, []),
        ("heap", None, {"n": 2, "doc": None}, []),
        ("t", {"a": 1, "b": "a", "c": 1}, None, []),
        ("t", {"a": 2, "b": "b", "c": None}, {"a": 2, "b": "b", "c": 5}, ["c"]),
        ("t", None, {"a": 4, "b": "d", "c": 4}, []),
    ]


def test_nothing_is_otherwise_in_the_same(connection: Connection, database: str) -> None:
    app = Wakelog("test")
    app.projection(
        "t", tables="create table t (a int primary key)", sql="insert into t select position from new_events"
    )
    connection.execute("insert into wakelog.events (type) select 'a' from generate_series(1, 5000)")
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    assert one(connection, "select count(*) from t.t") == 5000
    assert list(changes_between(connection, "t", "t")) == []
