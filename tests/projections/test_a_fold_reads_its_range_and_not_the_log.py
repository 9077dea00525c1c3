"""What is before and behind the range costs nothing, however long the log is and whichever plan was kept."""

from typing import Any

import pytest
from psycopg import Connection
from tests.projections import folds
from tests.worker.asking import rows_read
from tests.worker.waiting import one

EVENTS = 20_000
RANGE = 1000
RANGES = 8
"""More than the five after which a function's plan is made for whatever comes."""


@pytest.mark.parametrize("types", ["#", "counted"], ids=["every type", "one type"])
@pytest.mark.parametrize("start", [0, EVENTS // 2, EVENTS - RANGES * RANGE], ids=["first", "middle", "last"])
def test_each_range_is_read_once(connection: Connection[Any], start: int, types: str) -> None:
    folds.count(connection, range(EVENTS), keys=100)
    connection.execute("vacuum analyze wakelog.events, wakelog.log")
    connection.execute(
        """select wakelog.register_projection('totals', jsonb_build_object(
               'tables', array[%s::text], 'statements', array[%s::text], 'types', array[%s::text]))""",
        [folds.SQL_TABLES, folds.SQL, types],
    )
    build = one(connection, "select id from wakelog.projection_builds")
    connection.execute("update wakelog.checkpoints set position = %s", [start])
    for _ in range(RANGES):
        with connection.transaction():
            before = rows_read(connection, "log", "events")
            connection.execute("select wakelog.project_once(%s, 0, %s)", [build, RANGE])
            assert rows_read(connection, "log", "events") - before <= 4 * RANGE
    assert one(connection, "select position from wakelog.checkpoints") == start + RANGES * RANGE
