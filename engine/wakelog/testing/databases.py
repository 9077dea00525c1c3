"""Where the databases of tests come from: a server, a template with Wakelog's schema, a copy for each test."""

import itertools
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from wakelog.errors import WakelogError
from wakelog.postgres.connect import connect, database_url

GIVEN = "WAKELOG_TEST_DATABASE"
"""The variable with the URL of a server to use instead of a throwaway one."""

# Several processes may share a server that is given.
_PREFIX = f"wakelog_test_{os.getpid()}"
_numbers = itertools.count(1)


class Server(Protocol):
    """A PostgreSQL on which databases can be made."""

    def url(self, database: str) -> str: ...
    def create_database(self, name: str, template: str = "template1") -> str: ...
    def drop_database(self, name: str) -> None: ...


class GivenServer:
    """A server that runs anyway. Databases are made beside the one in its URL, which is left alone.

    The URL's role must be a superuser, as the clock of a database is turned with `alter database`.
    """

    def __init__(self, url: str) -> None:
        self._url = database_url(url)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        if "://" in self._url:
            return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))
        return make_conninfo(self._url, dbname=database)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database and return its URL; a template must have no connections at that moment."""
        statement = sql.SQL("create database {} template {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with connect(self._url, application_name="wakelog testing") as connection:
            connection.execute(statement)


@contextmanager
def running_server() -> Generator[Server]:
    """The server that is given by WAKELOG_TEST_DATABASE, or else a throwaway one, stopped afterwards.

    Raises `WakelogError` where neither can be had: it says what to install.
    """
    given = os.environ.get(GIVEN)
    if given:
        yield GivenServer(given)
        return
    try:
        from wakelog.testing.postgres import ThrowawayPostgres
    except ModuleNotFoundError as missing:
        raise WakelogError(
            f"expected the package {missing.name} for a throwaway PostgreSQL, found none",
            hint=f"Run: pip install 'wakelog[testing]', or set {GIVEN} to the URL of a server.",
        ) from None
    with ThrowawayPostgres() as server:
        yield server


@contextmanager
def schema_template(server: Server) -> Generator[str]:
    """The name of a database with Wakelog's schema in it, for others to be copied from; dropped afterwards."""
    # Imported here, so that tests of the server itself run without a schema.
    from wakelog.postgres.schema import install

    name = f"{_PREFIX}_template"
    url = server.create_database(name)
    try:
        with psycopg.connect(url) as connection:
            install(connection)
        yield name
    finally:
        server.drop_database(name)


@contextmanager
def fresh_database(server: Server, template: str) -> Generator[str]:
    """The URL of a new copy of a template; dropped afterwards, whoever is still connected to it."""
    name = f"{_PREFIX}_{next(_numbers)}"
    url = server.create_database(name, template)
    try:
        yield url
    finally:
        server.drop_database(name)
