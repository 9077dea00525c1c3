"""The clock that tests turn stands still for everybody else: a setting takes nobody's lease away."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.worker.asking import append, claim, register, sequence, start_worker
from tests.worker.waiting import one

TURNED_BY = """
select round(extract(epoch from wakelog.clock() - clock_timestamp()))
"""

ConnectAs = Callable[[str], Connection[Any]]


@pytest.fixture
def connect_as(database: str, connection: Connection[Any]) -> Iterator[ConnectAs]:
    """Connect as a role that logs in and is a member of the one named."""
    opened: list[Connection[Any]] = []
    made: list[sql.Identifier] = []

    def connect(member_of: str) -> Connection[Any]:
        name = f"clock_test_{len(made)}"
        role = sql.Identifier(name)
        connection.execute(sql.SQL("create role {} login in role {}").format(role, sql.Identifier(member_of)))
        made.append(role)
        url = make_conninfo("", **(conninfo_to_dict(database) | {"user": name}))
        opened.append(psycopg.connect(url, autocommit=True))
        return opened[-1]

    yield connect
    for one_of_them in opened:
        one_of_them.close()
    for role in made:
        connection.execute(sql.SQL("drop role {}").format(role))


def test_a_workers_setting_takes_nobodys_lease(connection: Connection[Any], connect_as: ConnectAs) -> None:
    register(connection, "job")
    append(connection, "a")
    sequence(connection)
    holder = start_worker(connection, "job")
    assert len(claim(connection, "job", holder)) == 1

    greedy = connect_as("wakelog_worker")
    greedy.execute("set wakelog.clock_offset = '1 hour'")
    assert one(greedy, TURNED_BY) == 0
    assert claim(greedy, "job", start_worker(greedy, "job")) == []
    assert one(greedy, "select state from wakelog.in_flight") == "running"


def test_its_owner_turns_it_for_a_session(connection: Connection[Any]) -> None:
    connection.execute("set wakelog.clock_offset = '1 hour'")
    assert one(connection, TURNED_BY) == 3600
    connection.execute("reset wakelog.clock_offset")
    assert one(connection, TURNED_BY) == 0


def test_whoever_owns_the_database_turns_it_for_all(
    connection: Connection[Any], connect_as: ConnectAs
) -> None:
    """As wakelog.testing does, where a test's worker connects as a role of its own."""
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("alter database {} set wakelog.clock_offset = '2 hours'").format(name))
    reader = connect_as("wakelog_reader")
    assert one(reader, TURNED_BY) == 7200
    reader.execute("set wakelog.clock_offset = '5 hours'")
    assert one(reader, TURNED_BY) == 7200
