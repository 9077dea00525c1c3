"""A worker process that was stopped for longer than its lease comes back and can change nothing with what it held."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

# The leases of the frozen one are made to end, rather than waited for: whoever is not frozen never loses his.
THEY_END = "update wakelog.deliveries set available_at = wakelog.clock()"

# The first attempt waits to be frozen and thawed, then does all that it may no longer do; a later one ends at once.
APP = """
    async def waited(event, ctx):
        await ctx.connection.execute(
            "insert into effects (event, attempt) values (%s, %s)", [event.position, ctx.attempt])
        ctx.emit("child", {"attempt": ctx.attempt})
        if ctx.attempt > 1:
            return False
        (folder / f"{event.position}.waits").write_text(str(os.getpid()))
        while not (folder / "go").exists():
            await asyncio.sleep(0.02)
        return True

    @app.agent("agent", on="work", start="beginning", backoff=Fixed(0))
    async def agent(event, ctx):
        if await waited(event, ctx):
            (folder / f"{event.position}.returns").touch()
            if event.payload["ending"] == "fails":
                raise ValueError("too late")
            if event.payload["ending"] == "gives up":
                raise DoNotRetry("too late")
            if event.payload["ending"] == "gives back":
                raise GiveBack()
            if event.payload["ending"] == "extends":
                await ctx.extend(60)
            if event.payload["ending"] == "steps":
                await ctx.step("charge", lambda: "by attempt 1")
        return {"attempt": ctx.attempt, "step": await ctx.step("charge", lambda: f"by attempt {ctx.attempt}")
                if ctx.attempt > 1 else None}

    @app.agent("batched", on="work", start="beginning", backoff=Fixed(0))
    async def batched(event, ctx):
        "Writes nothing in a transaction of its own: acknowledged in a batch."
        ctx.emit("child", {"attempt": ctx.attempt})
        (folder / f"{event.position}.batched.{ctx.attempt}").write_text(str(os.getpid()))
        while ctx.attempt == 1 and not (folder / "go").exists():
            await asyncio.sleep(0.02)
        return {"attempt": ctx.attempt}
"""
ENDINGS = ["returns", "fails", "gives up", "gives back", "extends", "steps"]


@pytest.mark.parametrize("another_takes_over", [True, False], ids=["another takes over", "nobody comes"])
def test_what_a_frozen_worker_held_is_done_once_by_another(
    connection: psycopg.Connection,
    start_workers: Callable[..., WorkerProcesses],
    tmp_path: Path,
    another_takes_over: bool,
) -> None:
    connection.execute("create table effects (event bigint, attempt int)")
    workers = start_workers(APP, slots=20)
    (frozen,) = workers.pids().values()
    connection.execute(
        "select wakelog.append('work', jsonb_build_object('ending', e)) from unnest(%s::text[]) e", [ENDINGS]
    )
    until(lambda: len([*tmp_path.glob("*.waits"), *tmp_path.glob("*.batched.1")]) == 2 * len(ENDINGS))
    workers.freeze(frozen)
    connection.execute(THEY_END)
    until(
        lambda: (
            one(connection, "select count(*) from wakelog.in_flight where state = 'lease_over'")
            == 2 * len(ENDINGS)
        )
    )
    if another_takes_over:
        other = start_workers(APP.replace('"go"', '"never"'), slots=20)
        until(lambda: completed(connection) == 2 * len(ENDINGS))
        assert one(connection, "select count(*) from effects") == len(ENDINGS)
    (tmp_path / "go").touch()
    workers.thaw(frozen)
    until(lambda: len([*tmp_path.glob("*.returns")]) == len(ENDINGS))
    until(lambda: completed(connection) == 2 * len(ENDINGS))
    # All but the giving back, which is nothing to complain of.
    until(lambda: workers.said().count("no longer holds attempt 1") == len(ENDINGS) - 1)
    until(lambda: workers.said().count("the lease was lost") == len(ENDINGS))
    if another_takes_over:
        other.stop()
        assert list(workers.pids().values()) == [frozen], "it should have gone on"
        connection.execute("select wakelog.append('work', '{\"ending\": \"returns\"}')")
        until(lambda: completed(connection) == 2 * len(ENDINGS) + 2)

    rows = connection.execute(
        "select event, array_agg(attempt order by attempt) from effects group by event"
    ).fetchall()
    assert sorted(attempts for _, attempts in rows) == sorted(
        [[2]] * len(ENDINGS) + ([[1]] if another_takes_over else [])
    )
    history = connection.execute(
        "select attempts, stalled, jsonb_path_query_array(failures, '$[*].reason'), count(*)"
        "  from wakelog.history where attempts > 1 group by 1, 2, 3"
    ).fetchall()
    assert history == [(2, 1, ["stalled"], 2 * len(ENDINGS))]
    assert one(connection, "select count(*) from wakelog.dead") == 0
    answers = connection.execute(
        "select type, payload ->> 'attempt', count(*) from wakelog.events"
        "  where type <> 'work' and causation_id in (select id from wakelog.log_events where position <= 100)"
        "  group by 1, 2 having payload ->> 'attempt' = '2' order by 1"
    ).fetchall()
    assert answers == [
        ("agent.completed", "2", len(ENDINGS)), ("batched.completed", "2", len(ENDINGS)),
        ("child", "2", 2 * len(ENDINGS)),
    ]  # fmt: skip
    per_event = "select count(*) from wakelog.events where type <> 'work' group by causation_id, source"
    assert set(connection.execute(per_event).fetchall()) == {(2,)}, "a child and a result of each agent"
    steps = connection.execute("select distinct result from wakelog.steps").fetchall()
    assert steps == [("by attempt 2",)]


def completed(connection: psycopg.Connection) -> int:
    return one(connection, "select count(*) from wakelog.history where outcome = 'completed'")
