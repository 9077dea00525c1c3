"""The CI example, loaded as `wakelog worker` loads it."""

from pathlib import Path

import pytest

from wakelog import Wakelog
from wakelog.agents.load import load_app

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def pipeline() -> Wakelog:
    return load_app(str(EXAMPLES / "ci_pipeline.py"))


@pytest.fixture
def ci_database(database: str) -> str:
    """A fresh database with Wakelog and the pipeline's own tables."""
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute((EXAMPLES / "ci_tables.sql").read_bytes())
    return database
