"""With wakelog_worker and the right to make schemas, projections are declared, folded, made anew and dropped."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from tests.projections import folds
from tests.worker.waiting import one


@pytest.fixture
def worker(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    connection.execute("create role projecting in role wakelog_worker")
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("grant create on database {} to projecting").format(database))
    connection.execute("set role projecting")
    yield connection
    connection.execute("reset role")
    connection.execute("drop owned by projecting cascade")
    connection.execute("drop role projecting")


def test_in_all_it_does(worker: psycopg.Connection) -> None:
    folds.count(worker, range(100))
    for version in (1, 2):
        options = {"tables": [folds.SQL_TABLES], "statements": [folds.SQL], "version": version}
        worker.execute("select wakelog.register_projection('totals', %s)", [json.dumps(options)])
        worker.execute("call wakelog.project('totals')")
    assert folds.rows(worker) == folds.sums_by_hand(worker)
    old, new = worker.execute("select id from wakelog.projection_builds order by id").fetchall()
    worker.execute("select wakelog.drop_build(%s)", old)
    copy = one(worker, "select wakelog.copy_build(%s)", *new)
    worker.execute("select wakelog.make_tables(%s)", [copy])
    worker.execute("select wakelog.attend_build(%s, false)", [copy])
    worker.execute("select wakelog.pause_projection('totals'), wakelog.resume_projection('totals')")
    worker.execute("call wakelog.project('totals')")
    assert one(worker, "select schema from wakelog.projection_builds where id = %s", copy) == "totals"
    assert folds.rows(worker) == folds.sums_by_hand(worker)
    worker.execute("select wakelog.drop_projection('totals')")
    assert one(worker, "select to_regnamespace('totals')") is None


@pytest.mark.parametrize(
    "change",
    [
        "update wakelog.checkpoints set position = 7",
        "delete from wakelog.projections",
        "update wakelog.projection_builds set statements = '{delete from wakelog.events}'",
    ],
)
def test_and_only_through_functions(worker: psycopg.Connection, change: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute(change.encode())
