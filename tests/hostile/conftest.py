"""Workers in hostile surroundings: the fixtures of the tests of workers, and what counts as done."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.pooler import transaction_pooler
from tests.worker.conftest import connection, start_workers

__all__ = ["connection", "pooled", "start_workers"]


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """The URL of the test's database through the pooler."""
    with tempfile.TemporaryDirectory(prefix="wakelog-test-", dir="/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        with transaction_pooler(database, folder, sessions=5) as url:
            yield url
