"""A claim tells attempts, stalls and leases as they stand in the table, whether it looked or knew without looking."""

from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import append, claim, fail, register, sequence, start_worker

RULES: dict[str, dict[str, Any]] = {
    "in any order": {},
    "in order": {"ordered_by": "payload.n"},
    "once": {"dedupe": {"by": "payload.n", "mode": "simple"}},
}


@pytest.mark.every_postgres
@pytest.mark.parametrize("options", RULES.values(), ids=RULES.keys())
def test_of_retries_stalled_ones_and_new_ones(connection: Connection[Any], options: dict[str, Any]) -> None:
    register(connection, "work", "push", **options)
    worker = start_worker(connection, "work", locked=False)
    for n in range(3):
        append(connection, "push", payload={"n": n})
    sequence(connection)
    failed, stalled, held = claim(connection, "work", worker)
    fail(connection, "work", worker, failed)
    connection.execute(
        "update wakelog.deliveries set available_at = wakelog.clock() where position = %s", [failed[0]]
    )
    connection.execute(
        "update wakelog.deliveries set available_at = wakelog.clock(), lost = true where position = %s",
        [stalled[0]],
    )
    for n in range(3, 6):
        append(connection, "push", payload={"n": n})
    sequence(connection)

    told = connection.execute(
        "select position, attempt, stalled, lease_until, type from wakelog.claim('work', %s, 10, '7 s')",
        [worker],
    ).fetchall()
    written = connection.execute(
        "select position, attempt, stalled, available_at, 'push' from wakelog.deliveries where position <> %s",
        [held[0]],
    ).fetchall()
    assert sorted(told) == sorted(written)
    assert [(position, attempt) for position, attempt, *_ in told] == [(1, 2), (2, 2), (4, 1), (5, 1), (6, 1)]
    assert [position for position, _, stalls, *_ in told if stalls] == [stalled[0]]


def test_of_nothing_new_where_there_is_room_for_a_retry_only(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    worker = start_worker(connection, "work", locked=False)
    append(connection, "push", "push")
    sequence(connection)
    (first,) = claim(connection, "work", worker, limit=1)
    fail(connection, "work", worker, first)
    connection.execute("update wakelog.deliveries set available_at = wakelog.clock()")
    assert claim(connection, "work", worker, limit=1) == [(1, 2, "push")]
    assert claim(connection, "work", worker, limit=1) == [(2, 1, "push")]
