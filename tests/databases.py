"""Databases for tests, copied ahead: the server makes the next one, and drops the last one, while a test runs.

No thread waits for that: a statement is sent to the server at once, and its answer read when it is needed.
"""

import itertools
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import LiteralString, Self

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from wakelog.testing.databases import Server

# The numbers go on from one template to the next. The process is named, as for `wakelog.testing`'s own databases.
_numbers = itertools.count(1)


class Copies:
    """Copies of a template, one for each test that asks, and one waiting for the next.

    Nobody may be connected to the template. What the server says to a copy or a drop that failed is raised in the
    test that comes next, or by the end.
    """

    def __init__(self, server: Server, template: str) -> None:
        self._server = server
        self._template = template
        self._closing = ExitStack()
        self._making = self._closing.enter_context(_Statement(server.url("postgres")))
        self._dropping = self._closing.enter_context(_Statement(server.url("postgres")))
        # Copied as files, a database keeps what the first connection to it would have to find out.
        self._make: LiteralString = "create database {} template {}"
        if self._making.server_version >= 150000:  # which it is without being asked before that
            self._make += " strategy file_copy"
        self._next: str | None = None

    @contextmanager
    def one(self) -> Generator[str]:
        """The URL of a copy; dropped afterwards, whoever is still connected to it."""
        name = self._taken()
        try:
            yield self._server.url(name)
        finally:
            self._drop(name)

    def _taken(self) -> str:
        name = self._next or self._begun()
        self._next = None  # whatever comes of it
        self._making.finish()
        self._next = self._begun()
        return name

    def _begun(self) -> str:
        name = f"wakelog_test_{os.getpid()}_copy_{next(_numbers)}"
        self._making.begin(sql.SQL(self._make).format(sql.Identifier(name), sql.Identifier(self._template)))
        return name

    def _drop(self, name: str) -> None:
        self._dropping.begin(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._closing:
            try:
                self._making.finish()
                if self._next is not None:
                    self._drop(self._next)
            finally:
                self._dropping.finish()


class _Statement:
    """One statement at a time, at which the server works while this process does something else."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, application_name="tests")
        self.server_version = self._connection.info.server_version

    def begin(self, statement: sql.Composed) -> None:
        """Send it when what was sent before has ended; what became of that is raised as by `finish`."""
        try:
            self.finish()
        finally:
            self._connection.pgconn.send_query(statement.as_bytes(self._connection))

    def finish(self) -> None:
        """Wait for the end of what was sent, if there is any; raises `psycopg.DatabaseError` where it failed."""
        failure: str | None = None
        while (result := self._connection.pgconn.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                failure = result.error_message.decode(errors="replace")
        if failure is not None:
            raise psycopg.DatabaseError(failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
