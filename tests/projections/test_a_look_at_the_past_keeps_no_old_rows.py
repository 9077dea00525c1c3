"""However long it takes: a snapshot kept by whoever looks would keep every old row of the database, and the tables
aside would grow with each event that is folded into them.
"""

from contextlib import closing

import psycopg
from tests.projections import folds
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.projections.aside import LookAside
from wakelog.projections.builds import Build
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.folding import Folding
from wakelog.projections.runner import catch_up
from wakelog.projections.verifying import verify

HOLDER = """
    select count(*) from pg_stat_activity a
    where a.datname = current_database() and a.application_name = 'wakelog looks aside'
      and a.state = 'idle in transaction'
"""
SEES = """
    select count(*) from pg_stat_activity a
    where a.datname = current_database() and a.application_name = 'wakelog verify' and a.backend_xmin is not null
"""


def test_the_lock_on_what_was_made_comes_without_a_snapshot(
    connection: psycopg.Connection, database: str
) -> None:
    app = Wakelog("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES)
    folds.count(connection, range(10))
    assert catch_up(database, app.projections) == []
    with (
        psycopg.connect(database, autocommit=True) as makes,
        LookAside(makes, database, "totals", app.projections["totals"]) as look,
    ):
        for made in (1, 2):
            look.make(10)
            assert one(connection, HOLDER) == 1
            assert one(connection, f"{HOLDER} and a.backend_xmin is null") == 1
            assert one(connection, "select count(*) from pg_locks l join pg_stat_activity a using (pid)"
                                   " where l.locktype = 'advisory' and a.application_name = 'wakelog looks aside'"
                                   "   and a.datname = current_database()") == made  # fmt: skip


def test_what_is_verified_is_folded_before_it_is_seen(connection: psycopg.Connection, database: str) -> None:
    """And what came meanwhile is folded after that, up to the position at which it was seen."""
    app = Wakelog("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES)
    folds.count(connection, range(10))
    assert catch_up(database, app.projections) == []
    seen: list[tuple[int | None, int]] = []

    def fold(build: Build) -> None:
        seen.append((build.upto, one(connection, SEES)))
        with closing(open_projection_connection(database, "totals")) as own:
            assert Folding(own, build.build).advance(build.upto).upto == build.upto
        if len(seen) == 1:
            folds.count(connection, range(10, 25))
            assert catch_up(database, app.projections) == []

    with psycopg.connect(database, autocommit=True) as makes:
        verdict = verify(makes, database, "totals", app.projections["totals"], fold)
    assert seen == [(10, 0), (25, 1)]
    assert (verdict.position, verdict.difference) == (25, None)
