"""A database as the first Wakelog made it: its tables by revision 0001, its functions from the text kept of them."""

from pathlib import Path

import psycopg

from wakelog.postgres.schema import upgrade

FUNCTIONS = Path(__file__).parent / "revision_0001" / "functions.sql"


def make_first_schema(url: str) -> None:
    """Make revision 0001 in an empty database, with the functions, triggers, views and grants of its time."""
    assert upgrade(url, "0001").state == "old"
    with psycopg.connect(url) as connection:
        connection.execute(FUNCTIONS.read_bytes())
