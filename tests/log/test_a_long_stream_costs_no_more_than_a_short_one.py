"""In one transaction, too, which keeps the plans it began with, when the log had a few rows."""

from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import rows_read
from tests.worker.waiting import one

EVENTS = 2000


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize(
    "append",
    [
        "insert into wakelog.events (type, stream) select 't', 's' from generate_series(1, %(events)s)",
        "select count(wakelog.append('t', p_stream => 's')) from generate_series(1, %(events)s)",
        """select count(wakelog.append('t', p_stream => 's', p_expected_version => %(before)s + n - 1))
           from generate_series(1, %(events)s::bigint) n""",
    ],
)
def test_the_last_version_is_looked_up_and_not_searched(
    observer: Connection[Any], before: int, append: Any
) -> None:
    observer.execute(
        "insert into wakelog.events (type, stream) select 't', 's' from generate_series(1, %s)", [before]
    )
    observer.execute("vacuum analyze wakelog.events")
    with observer.transaction():
        observer.execute(append, {"before": before, "events": EVENTS})
        assert rows_read(observer, "events") <= 3 * EVENTS
    assert one(observer, "select max(version) from wakelog.events where stream = 's'") == before + EVENTS
