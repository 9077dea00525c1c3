"""However long it takes: a snapshot kept by whoever looks would keep every old row of the database, and the tables
aside would grow with each event that is folded into them.
"""

import psycopg
from tests.projections import folds
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.projections.aside import LookAside
from wakelog.projections.runner import catch_up

HOLDER = """
    select count(*) from pg_stat_activity a
    where a.datname = current_database() and a.application_name = 'wakelog looks aside'
      and a.state = 'idle in transaction'
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
