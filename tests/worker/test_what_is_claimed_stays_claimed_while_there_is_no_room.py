"""What a worker has claimed ahead and has no room for is prolonged as what it works on is, and not lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

from wakelog.worker.shift import LARGEST_BATCH

LEASE = 2.0


def test_a_claim_ahead_outlasts_its_lease_where_the_slots_are_taken(
    connection: psycopg.Connection[Any], start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    start_workers(
        """
        @app.agent("work", on="work", start="beginning")
        async def work(event, ctx):
            while event.payload == "slow" and not (folder / "go").exists():
                await asyncio.sleep(0.01)
        """,
        slots=2,
        lease=LEASE,
    )
    append = "select wakelog.append('work', to_jsonb(p)) from unnest(%s::text[]) p"
    # The quick ones let the worker see that it can claim many at a time, and ahead.
    connection.execute(append, [["quick"] * 400])
    until(lambda: one(connection, "select count(*) from wakelog.history") == 400)
    connection.execute(append, [["slow"] * 3 * LARGEST_BATCH])
    in_hand = "select count(*) from wakelog.deliveries where worker is not null"
    until(lambda: one(connection, in_hand) > LARGEST_BATCH)
    claimed, at = one(connection, in_hand), one(connection, "select max(claimed_at) from wakelog.deliveries")
    beaten = "select bool_and(seen_at > %s + make_interval(secs => %s)) from wakelog.worker_sessions"
    until(lambda: one(connection, beaten, at, 1.5 * LEASE))
    assert one(connection, in_hand) == claimed, "the test did not do what it was made for"
    (tmp_path / "go").touch()
    until(lambda: one(connection, "select count(*) from wakelog.history") == 400 + 3 * LARGEST_BATCH)
    assert (
        one(connection, "select count(*) from wakelog.history where attempts > 1 or failures is not null")
        == 0
    )
