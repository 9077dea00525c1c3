"""Sessions of the test's own database."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions


@pytest.fixture
def session(database: str) -> Iterator[Sessions]:
    """Opens a connection at each call."""
    sessions = Sessions(database)
    yield sessions
    sessions.close()


@pytest.fixture
def observer(session: Sessions) -> psycopg.Connection[Any]:
    """A connection in autocommit that looks at what the others do."""
    return session()
