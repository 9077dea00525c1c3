"""It is looked up, by a transaction too that keeps the plan it began with, when the log had a few rows."""

from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import rows_read
from tests.worker.waiting import one

EVENTS = 2000
ONE_BY_ONE = "select count(wakelog.append('t', p_idempotency_key => n::text)) from generate_series(1, %s) n"
AT_ONCE = """
    select count(*) from wakelog.append_many((
        select jsonb_agg(jsonb_build_object('type', 't', 'idempotency_key', n)) from generate_series(1, %s) n))
"""


@pytest.mark.parametrize("append", [ONE_BY_ONE, AT_ONCE], ids=["one by one", "at once"])
@pytest.mark.parametrize("before", [0, 5])
def test_the_key_is_looked_up_and_not_searched(observer: Connection[Any], before: int, append: Any) -> None:
    observer.execute("insert into wakelog.events (type) select 't' from generate_series(1, %s)", [before])
    observer.execute("vacuum analyze wakelog.events")
    for _ in range(2):  # the second time, all of them are there already
        with observer.transaction():
            read = rows_read(observer, "events")
            observer.execute(append, [EVENTS])
            assert rows_read(observer, "events") - read <= 3 * EVENTS
    assert one(observer, "select count(*) from wakelog.events") == before + EVENTS
