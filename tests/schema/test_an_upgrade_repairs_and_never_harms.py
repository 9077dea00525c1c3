"""Upgrading: harmless when current, safe twice at once, refused when newer, all or nothing."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.log.sessions import waiting_for_a_lock
from tests.schema.dumps import dump

from wakelog.errors import SchemaMismatch, WakelogError
from wakelog.postgres import migration
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.roles import roles_status
from wakelog.postgres.schema import UPGRADE_LOCK, require_current, status, upgrade
from wakelog.testing import ThrowawayPostgres


def value(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def change(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def forget_the_functions(url: str, installed_by: str = "0.0.1") -> None:
    change(url, f"comment on schema wakelog is 'Wakelog {installed_by}, functions 0123456789abcdef'")


RIGHTS = """
select p.oid::regprocedure::text, g.rolname from pg_proc p cross join lateral aclexplode(p.proacl) a
join pg_roles g on g.oid = a.grantee where p.pronamespace = 'wakelog'::regnamespace and g.rolname like 'wakelog%'
order by 1, 2
"""
FUNCTIONS = "select max(xmin::text::bigint) from pg_proc where pronamespace = 'wakelog'::regnamespace"


def test_a_current_database_is_left_alone(database: str) -> None:
    before = value(database, FUNCTIONS)
    assert upgrade(database).state == "current"
    assert value(database, FUNCTIONS) == before


def test_functions_of_another_day_are_replaced(binaries: Binaries, database: str) -> None:
    expected = dump(binaries, database)
    change(
        database, "create or replace function wakelog.clock() returns timestamptz language sql return now()"
    )
    # A view with other columns cannot be replaced, only made anew.
    change(database, "drop view wakelog.lag; create view wakelog.lag as select 1 as one, 2 as two")
    forget_the_functions(database)
    assert status(database).state == "old"
    with psycopg.connect(database) as connection:
        assert not require_current(connection).functions_current  # no reason to refuse a worker
    assert upgrade(database).state == "current"
    assert dump(binaries, database) == expected


def test_events_survive_an_upgrade(database: str) -> None:
    change(database, "insert into wakelog.events (type) values ('a')")
    forget_the_functions(database)
    upgrade(database)
    assert value(database, "select count(*) from wakelog.events") == 1
    assert value(database, "select wakelog.sequence()") == 1


def test_several_at_once_take_turns(empty_database: str) -> None:
    upgrading = [
        sys.executable,
        "-c",
        "import sys; from wakelog.postgres.schema import *; upgrade(sys.argv[1])",
    ]
    with psycopg.connect(empty_database, autocommit=True) as starter:
        starter.execute("select pg_advisory_lock(%s, 0)", [UPGRADE_LOCK])
        processes = [subprocess.Popen([*upgrading, empty_database], stderr=subprocess.PIPE) for _ in range(3)]
        waiting_for_a_lock(starter, len(processes))
        starter.execute("select pg_advisory_unlock(%s, 0)", [UPGRADE_LOCK])
        for process in processes:
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said.decode()
    assert status(empty_database).state == "current"


def test_several_in_one_process_take_turns(empty_database: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(upgrade, [empty_database] * 3))
    assert [one.state for one in found] == ["current"] * 3


def test_an_absent_schema_is_said_with_the_next_command(empty_database: str) -> None:
    assert status(empty_database).state == "absent"
    with (
        psycopg.connect(empty_database) as connection,
        pytest.raises(SchemaMismatch, match="wakelog db upgrade"),
    ):
        require_current(connection)


def test_a_newer_database_is_left_alone(binaries: Binaries, database: str) -> None:
    change(database, "update wakelog.alembic_version set version_num = '9001'")
    forget_the_functions(database, installed_by="99.1.0")
    before = dump(binaries, database)
    assert status(database).state == "newer"
    said = r"newer than this Wakelog.*found 9001, upgraded by Wakelog 99\.1\.0"
    with pytest.raises(SchemaMismatch, match=said):
        upgrade(database)
    with psycopg.connect(database) as connection, pytest.raises(SchemaMismatch, match=said):
        require_current(connection)
    assert dump(binaries, database) == before


def test_newer_functions_are_left_alone(database: str) -> None:
    forget_the_functions(database, installed_by="99.1.0")
    assert status(database).state == "newer"
    with pytest.raises(SchemaMismatch, match="Install Wakelog 99"):
        upgrade(database)
    with psycopg.connect(database) as connection:
        assert require_current(connection).state == "newer"


def test_an_upgrade_that_fails_leaves_nothing(binaries: Binaries, empty_database: str) -> None:
    change(empty_database, "create schema wakelog; create table wakelog.log (something int)")
    before = dump(binaries, empty_database)
    with pytest.raises(psycopg.errors.DuplicateTable):
        upgrade(empty_database)
    assert dump(binaries, empty_database) == before


def test_appends_do_not_wait_for_an_upgrade_that_waits(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "LOCK_TIMEOUT", "set local lock_timeout = '200ms'")
    forget_the_functions(database)
    with psycopg.connect(database) as appending:
        appending.execute("insert into wakelog.events (type) values ('a')")
        with pytest.raises(WakelogError, match="waited 10 seconds for an open transaction"):
            upgrade(database)
    assert status(database).state == "old"
    assert upgrade(database).state == "current"


def test_roles_that_come_later_get_their_rights(crashable_server: ThrowawayPostgres) -> None:
    """A server of its own, for roles belong to all databases of a cluster."""
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        rights = connection.execute(RIGHTS).fetchall()
        assert {role for _, role in rights} == {
            "wakelog_writer",
            "wakelog_reader",
            "wakelog_worker",
            "wakelog_keys",
        }
        for role in ("wakelog_reader", "wakelog_worker"):
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))
        connection.execute("create role wakelog_worker")
        assert status(url).state == "current"
        found = roles_status(connection)
        assert (found.missing, found.without_rights) == (("wakelog_reader",), ("wakelog_worker",))

        assert upgrade(url).state == "current"
        found = roles_status(connection)
        assert (found.missing, found.without_rights) == ((), ())
        assert connection.execute(RIGHTS).fetchall() == rights
        connection.execute("set role wakelog_worker")
        connection.execute("select * from wakelog.lag")  # as a member of wakelog_reader


def test_whoever_owns_the_database_may_upgrade_it(server: ThrowawayPostgres, database: str) -> None:
    """As on managed Postgres: no superuser, no right to make roles, and the roles made by another."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("create role plain_owner login")
        connection.execute("create database owned owner plain_owner")
        try:
            url = server.url("owned").replace("postgres@", "plain_owner@")
            assert upgrade(url).state == "current"
            forget_the_functions(url)
            assert upgrade(url).state == "current"
            change(url, "insert into wakelog.events (type) values ('a')")
            assert value(url, "select wakelog.sequence()") == 1
        finally:
            connection.execute(sql.SQL("drop database owned with (force)"))
            connection.execute("drop role plain_owner")
