"""wakelog bench: figures and advice, measured beside the log that was named, and nothing left of it however it ends."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.cli.command import Processes, Wakelog

from wakelog.measuring.scratch import scratch_database
from wakelog.testing import ThrowawayPostgres
from wakelog_cli.interruption import ended_like_ctrl_c

Connection = psycopg.Connection[Any]
Eventually = Callable[[Callable[[], bool], str], None]

SCRATCH = r"select coalesce(array_agg(datname), '{}') from pg_database where datname ~ '^wakelog_bench_'"


def scratch(connection: Connection) -> list[str]:
    row = connection.execute(SCRATCH).fetchone()
    assert row is not None
    return row[0]


def workers_of(connection: Connection, database: str) -> int:
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = %s and application_name = 'wakelog worker'",
        [database],
    ).fetchone()
    assert row is not None
    return row[0]


def test_it_measures_beside_the_log(wakelog: Wakelog, log_of_three: Connection) -> None:
    ended = wakelog("bench", "--seconds", "0.1", "--clients", "4", "--json")
    assert (ended.code, ended.err) == (0, "")
    figures = {figure["figure"]: figure for figure in ended.json["figures"]}
    assert set(figures) >= {
        "network round trip", "commit of one row", "appends, 4 clients", "insert to handler, idle",
        "deliveries, no-op handler", "deliveries, batch=500", "deliveries, one write each",
    }  # fmt: skip
    assert all(figure["value"] >= 0 for figure in figures.values())
    assert figures["deliveries, one write each"]["value"] > 1
    assert 0 < figures["insert to handler, idle"]["value"] <= figures["insert to handler, idle"]["p99"]
    # The server of the tests is a careless one with little memory.
    assert {"fsync", "shared_buffers"} <= {advice["about"] for advice in ended.json["advice"]}

    assert scratch(log_of_three) == []
    assert log_of_three.execute("select count(*) from wakelog.events").fetchone() == (3,)
    assert log_of_three.execute("select count(*) from wakelog.agents").fetchone() == (0,)
    assert log_of_three.execute("select count(*) from wakelog.worker_sessions").fetchone() == (0,)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(
    how: signal.Signals, connection: Connection, database: str, processes: Processes, tmp_path: Path,
    eventually: Eventually,
) -> None:  # fmt: skip
    bench = processes.start("bench", "--seconds", "60", folder=tmp_path, DATABASE_URL=database)
    eventually(lambda: any(workers_of(connection, name) for name in scratch(connection)), "the measuring")
    bench.send_signal(how)
    out, err = bench.communicate(timeout=30)
    assert (bench.returncode, out, err) == (130, "", "")
    assert scratch(connection) == []


def test_what_an_interruption_cuts_short_is_not_complained_of(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted() -> None:
        with ended_like_ctrl_c(), psycopg.connect(database) as connection:
            connection.pgconn.send_query(b"select pg_sleep(60)")  # it comes between sending and waiting
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert caplog.records == []


def test_what_a_killed_one_leaves_ends_by_itself_or_with_the_next(
    connection: Connection, database: str, processes: Processes, tmp_path: Path, eventually: Eventually
) -> None:
    bench = processes.start("bench", "--seconds", "60", folder=tmp_path, DATABASE_URL=database)
    eventually(lambda: any(workers_of(connection, name) for name in scratch(connection)), "the measuring")
    bench.kill()
    (left,) = scratch(connection)
    eventually(lambda: connection.execute(
        "select count(*) from pg_stat_activity where datname = %s", [left]).fetchone() == (0,), "the end")  # fmt: skip

    with scratch_database(database) as beside:
        assert beside.left_behind == []  # one as young may be another's that has just begun
    old = "wakelog_bench_1700000000_0123abcd"
    rename = sql.SQL("alter database {} rename to {}")
    connection.execute(rename.format(sql.Identifier(left), sql.Identifier(old)))
    with scratch_database(database) as beside:
        assert beside.left_behind == [old]
        assert scratch(connection) == [beside.name]
    assert scratch(connection) == []


def test_roles_that_were_made_for_it_go_with_it(bare: Wakelog, crashable_server: ThrowawayPostgres) -> None:
    roles = "select count(*) from pg_roles where rolname in ('wakelog_writer', 'wakelog_reader', 'wakelog_worker')"
    with psycopg.connect(crashable_server.url("postgres"), autocommit=True) as connection:
        with scratch_database(crashable_server.url("postgres")):
            assert connection.execute(roles).fetchone() == (3,)
        assert connection.execute(roles).fetchone() == (3,)  # the log in the database `test` was there before
        connection.execute("drop database test with (force)")
        connection.execute("drop role wakelog_writer, wakelog_reader, wakelog_worker")
        with scratch_database(crashable_server.url("postgres")):
            assert connection.execute(roles).fetchone() == (3,)
        assert connection.execute(roles).fetchone() == (0,)


def test_a_role_that_may_not_make_databases_is_told_what_it_needs(
    bare: Wakelog, connection: Connection, database: str
) -> None:
    connection.execute("create role modest login")
    try:
        ended = bare("bench", "--database", database.replace("postgres@", "modest@"))
    finally:
        connection.execute("drop role modest")
    assert ended.code == 1
    assert 'alter role "modest" createdb' in ended.err
    assert scratch(connection) == []
