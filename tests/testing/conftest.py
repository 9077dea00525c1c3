"""The fixtures users get from the plugin, on this session's server."""

import pytest

from wakelog.testing import ThrowawayPostgres
from wakelog.testing.plugin import wakelog_database, wakelog_log

__all__ = ["wakelog_database", "wakelog_log"]


@pytest.fixture(scope="session")
def wakelog_server(server: ThrowawayPostgres) -> ThrowawayPostgres:
    return server


@pytest.fixture(scope="session")
def wakelog_template(template: str) -> str:
    return template
