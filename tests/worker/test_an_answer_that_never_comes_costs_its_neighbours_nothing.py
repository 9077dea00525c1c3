"""An event over which each claim's answer is lost is given up; those that were claimed together with it are done."""

from collections.abc import Callable
from typing import Any

import psycopg
from tests.worker.asking import append, claim, register, sequence, start_worker
from tests.worker.cutting import cut_at
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until


def test_only_the_one_that_cannot_be_sent_is_given_up(
    connection: psycopg.Connection[Any], database: str, start_workers: Callable[..., WorkerProcesses]
) -> None:
    payloads = ["unspeakable" if n == 7 else "harmless" for n in range(1, 13)]
    connection.execute("select wakelog.append('work', to_jsonb(p)) from unnest(%s::text[]) p", [payloads])
    with cut_at(database, b"unspeakable") as url:
        workers = start_workers(
            """
            @app.agent("work", on="work", start="beginning", max_stalled=2)
            async def work(event, ctx): ...
            """,
            url=url,
        )
        ended = "select (select count(*) from wakelog.history where outcome = 'completed'), count(*) from wakelog.dead"
        until(lambda: connection.execute(ended).fetchone() == (11, 1))
        workers.stop()
    assert connection.execute("select position, reason from wakelog.dead_letters").fetchall() == [
        (7, "stalled")
    ]


def test_beside_one_in_its_last_chance_its_worker_claims_nothing(
    connection: psycopg.Connection[Any], start_workers: Callable[..., WorkerProcesses]
) -> None:
    register(connection, "agent", "work", max_stalled=1)
    worker = start_worker(connection, "agent", locked=False)
    append(connection, "work", "work", "work")
    sequence(connection)
    for position, attempt, _ in claim(connection, "agent", worker):
        connection.execute(
            "select wakelog.stall('agent', %s, %s, %s, 'cut off')", [worker, [position], [attempt]]
        )
    connection.execute("select wakelog.stop_worker(%s)", [worker])
    start_workers("""
        @app.agent("agent", on="work", start="beginning", max_stalled=1)
        async def work(event, ctx):
            await asyncio.sleep(0.2)
    """)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 3)
    at_once = """select count(*) from wakelog.history h join wakelog.history o on o.position > h.position
                 and o.started_at < h.finished_at and h.started_at < o.finished_at"""
    assert one(connection, at_once) == 0


def test_one_in_its_last_chance_is_claimed_alone(connection: psycopg.Connection[Any]) -> None:
    register(connection, "agent", "work", max_stalled=2)
    worker = start_worker(connection, "agent", locked=False)
    connection.execute("set wakelog.clock_offset = '0'")
    append(connection, "work", "work", "work")
    sequence(connection)
    for turn in (1, 2):
        assert len(claim(connection, "agent", worker)) == 3
        connection.execute("select set_config('wakelog.clock_offset', %s, false)", [f"{turn * 60} s"])
    append(connection, "work")
    sequence(connection)
    # It would be the third time for each: one by one, and what is fresh only after them.
    assert [[position for position, _, _ in claim(connection, "agent", worker)] for _ in range(4)] == [
        [1], [2], [3], [4]
    ]  # fmt: skip
