"""The databases of this suite are copied ahead: nobody gets one twice, nothing is left, no failure is kept quiet."""

import os
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from tests.databases import Copies

from wakelog.testing import ThrowawayPostgres

OURS = "select datname from pg_database where datname like %s"


@pytest.fixture
def connection(server: ThrowawayPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        yield connection


def execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def number(name: str) -> int:
    return int(name.rpartition("_")[2])


def databases(connection: psycopg.Connection, since: int) -> list[str]:
    """Those that were made since the one of that number; the suite's own may come and go meanwhile."""
    names = connection.execute(OURS, [f"wakelog_test_{os.getpid()}_copy_%"]).fetchall()
    return [name for (name,) in names if number(name) >= since]


def test_each_is_fresh_and_nothing_is_left(server: ThrowawayPostgres, connection: psycopg.Connection) -> None:
    with Copies(server, "template1") as copies:
        seen = set[str]()
        for _ in range(3):
            with copies.one() as url, psycopg.connect(url) as used:
                seen.add(url)
                used.execute("create table mine (n int)")
                used.commit()
        assert len(seen) == 3
        with copies.one() as one, copies.one() as another:
            assert one != another
            execute(one, "create table mine (n int)")
            execute(another, "create table mine (n int)")
        first = min(map(number, seen))
        assert databases(connection, first)
    assert databases(connection, first) == []


def test_those_who_are_still_connected_are_cut_off(server: ThrowawayPostgres) -> None:
    with Copies(server, "template1") as copies:
        with copies.one() as url:
            forgotten = psycopg.connect(url)
        with copies.one():
            pass
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("select 1")


def test_what_the_server_refuses_is_raised_in_the_next_test(
    server: ThrowawayPostgres, connection: psycopg.Connection
) -> None:
    server.create_database("short_lived")
    with Copies(server, "short_lived") as copies:
        with copies.one():
            server.drop_database("short_lived")
        with copies.one():  # made before
            pass
        for _ in range(2):
            with pytest.raises(psycopg.DatabaseError, match='template database "short_lived" does not exist'):
                copies.one().__enter__()
        # And one that cannot be dropped.
        server.create_database("short_lived")
        with copies.one() as url:
            connection.execute(f"alter database {url.rpartition('/')[2]} is_template true".encode())
        with pytest.raises(psycopg.DatabaseError, match="cannot drop a template database"), copies.one():
            pass
        connection.execute(f"alter database {url.rpartition('/')[2]} is_template false".encode())
        server.drop_database(url.rpartition("/")[2])
    server.drop_database("short_lived")
