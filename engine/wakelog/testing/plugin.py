"""The fixtures pytest finds by itself (entry point `wakelog`). Nothing happens in tests that ask for none of them.

Imports wait for the fixtures, so that a run without them pays nothing and needs nothing installed.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wakelog.testing.databases import Server
    from wakelog.testing.log import LogUnderTest


@pytest.fixture(scope="session")
def wakelog_server() -> "Iterator[Server]":
    """The session's PostgreSQL: a throwaway one, or that of WAKELOG_TEST_DATABASE."""
    from wakelog.testing.databases import running_server

    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def wakelog_template(wakelog_server: "Server") -> Iterator[str]:
    """The name of a database with Wakelog's schema in it, of which each test gets a copy.

    Ask for it in a session fixture of your own to put your tables beside it: every test then has them.
    """
    from wakelog.testing.databases import schema_template

    with schema_template(wakelog_server) as name:
        yield name


@pytest.fixture
def wakelog_database(wakelog_server: "Server", wakelog_template: str) -> Iterator[str]:
    """The URL of a fresh database with Wakelog's schema in it, dropped after the test."""
    from wakelog.testing.databases import fresh_database

    with fresh_database(wakelog_server, wakelog_template) as url:
        yield url


@pytest.fixture
def wakelog_log(wakelog_database: str) -> "Iterator[LogUnderTest]":
    """A log of the test's own, empty, on which agents can be run."""
    from wakelog.testing.log import LogUnderTest

    with LogUnderTest(wakelog_database) as log:
        yield log
