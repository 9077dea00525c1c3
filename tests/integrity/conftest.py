"""A sealed log, and a superuser who may do anything to it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.integrity.tampering import fill
from tests.log.sessions import Sessions
from tests.worker.conftest import start_workers

from wakelog.testing import ThrowawayPostgres
from wakelog.testing.databases import fresh_database

__all__ = ["connection", "log", "sealed_database", "session", "start_workers"]


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the test's own database; each statement is a transaction."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def sealed_database(server: ThrowawayPostgres, template: str) -> Iterator[str]:
    """A database of which nothing is changed: 40 events in four seals of ten, and three that are not sealed."""
    with fresh_database(server, template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, 43)
            for _ in range(4):
                assert connection.execute("select wakelog.seal(10)").fetchone() == (10,)
        yield url


@pytest.fixture
def log(sealed_database: str) -> Iterator[psycopg.Connection[Any]]:
    """That database for a superuser for whom no trigger fires; whatever is done to it is rolled back in the end."""
    with psycopg.connect(sealed_database) as connection:
        connection.execute("set local session_replication_role = replica")
        yield connection
        connection.rollback()


@pytest.fixture
def session(database: str) -> Iterator[Sessions]:
    """Further connections to that database, as many as are asked for."""
    sessions = Sessions(database)
    yield sessions
    sessions.close()
