from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import append, claim, register, sequence, start_worker
from tests.worker.waiting import one, until

COMPLETED = "select payload from wakelog.events where type = 'work.completed'"

# Notes every call, and waits between its steps until it may go on.
TWO_STEPS = {
    "async": """
def note(what):
    with (folder / "calls").open("a") as calls: calls.write(what + "\\n")

async def fetch(name, *, times):
    note("fetch")
    return {"name": name, "times": times, "pair": (1, 2), "by_number": {7: "seven"}}

def build(): note("build"); return "built"

@app.agent("work", on="push", start="beginning")
async def work(event, ctx):
    fetched = await ctx.step("fetch", fetch, "x", times=3)
    (folder / "between").touch()
    while not (folder / "go on").exists():
        await asyncio.sleep(0.01)
    return [fetched, await ctx.step("build", build), ctx.attempt]
""",
    "sync": """
def note(what):
    with (folder / "calls").open("a") as calls: calls.write(what + "\\n")

def fetch(name, *, times):
    note("fetch")
    return {"name": name, "times": times, "pair": (1, 2), "by_number": {7: "seven"}}

def build(): note("build"); return "built"

@app.agent("work", on="push", start="beginning")
def work(event, ctx):
    fetched = ctx.step("fetch", fetch, "x", times=3)
    (folder / "between").touch()
    while not (folder / "go on").exists():
        time.sleep(0.01)
    return [fetched, ctx.step("build", build), ctx.attempt]
""",
}


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_after_a_crash_a_finished_step_returns_what_it_returned(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    append(connection, "push")
    workers = start_workers(TWO_STEPS[kind])
    until((tmp_path / "between").exists)
    assert one(connection, "select result from wakelog.steps where name = 'fetch'")["name"] == "x"
    (pid,) = workers.pids().values()
    workers.kill(pid)
    (tmp_path / "go on").touch()
    fetched = {"name": "x", "times": 3, "pair": [1, 2], "by_number": {"7": "seven"}}
    assert until(lambda: one(connection, COMPLETED)) == [fetched, "built", 2]
    assert (tmp_path / "calls").read_text().split() == ["fetch", "build"]
    assert one(connection, "select stalled from wakelog.history") == 1


RULES = """
import threading
calls = []

async def late(value): await asyncio.sleep(0.05); return value
def thread(): return threading.current_thread() is threading.main_thread()
def boom(): calls.append("boom"); raise RuntimeError("first time" if len(calls) == 1 else "again")

@app.agent("work", on="push", start="beginning", max_attempts=2, backoff=Fixed(0))
async def work(event, ctx):
    both = await asyncio.gather(ctx.step("a", late, (1, 2)), ctx.step("b", late, None))
    if both != [[1, 2], None]: raise DoNotRetry(f"not as JSON gives it back: {both}")
    in_main_thread = await ctx.step("thread", thread)
    refused = []
    for name, fn in (("a", thread), ("no json", object), ("two words", lambda: 5)):
        try: refused.append(await ctx.step(name, fn))
        except ValueError as error: refused.append(str(error))
    ctx.log.warning("so far %s", both)
    if ctx.attempt == 1:
        await ctx.step("boom", boom)
    await ctx.extend("50s")
    return [both, in_main_thread, refused, ctx.attempt]

@app.agent("sync", on="push", start="beginning", max_attempts=1)
def sync(event, ctx):
    ctx.extend(50)
    ctx.log.warning("in a thread")
    ctx.step("once", thread)
    return ctx.step("once", thread)
"""


def test_the_rules_of_steps(connection: Connection[Any], start_workers: Callable[..., Any]) -> None:
    append(connection, "push")
    workers = start_workers(RULES)
    both, in_main_thread, refused, attempt = until(lambda: one(connection, COMPLETED))
    assert (both, in_main_thread, attempt) == ([[1, 2], None], False, 2)
    assert refused == [
        'step "a" was used before in this attempt; give every step a name of its own',
        'the result of step "no json": expected a value that can be written as JSON, found object: '
        "Type is not JSON serializable: object",
        5,
    ]
    # What raised was not remembered, and neither was what could not be stored.
    names = connection.execute("select name from wakelog.steps where agent_id = wakelog.agent_id('work')")
    assert sorted(name for (name,) in names.fetchall()) == ["a", "b", "thread", "two words"]
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 1)
    assert 'step "once" was used before' in one(connection, "select error from wakelog.dead_letters")
    said = workers.said()
    assert "[work at 1, attempt 1] so far [[1, 2], None]" in said
    assert "[work at 1, attempt 2] so far [[1, 2], None]" in said
    assert "[sync at 1, attempt 1] in a thread" in said


def test_extend_holds_an_event_longer_than_the_heartbeat_does(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, "push")
    start_workers(
        """
        @app.agent("work", on="push", start="beginning")
        async def work(event, ctx):
            await ctx.extend("10m")
            while not (folder / "go on").exists(): await asyncio.sleep(0.01)
        """,
        lease=1.5,
    )
    left = "select extract(epoch from available_at - clock_timestamp()) from wakelog.deliveries"
    until(lambda: (one(connection, left) or 0) > 500)
    beaten = one(connection, "select seen_at from wakelog.workers")
    until(lambda: one(connection, "select seen_at from wakelog.workers") > beaten)
    assert one(connection, left) > 500
    (tmp_path / "go on").touch()
    until(lambda: one(connection, "select count(*) from wakelog.history") == 1)


def test_a_step_is_stored_once_and_only_by_the_holder(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "work")
    claim(connection, "work", worker, lease=5)
    store = "select wakelog.record_step('work', 1, %s, %s, 'build', %s::jsonb)"
    assert one(connection, store, worker, 1, '"first"') == "first"
    assert one(connection, store, worker, 1, '"second"') == "first"
    connection.execute("set wakelog.clock_offset = '6 seconds'")
    other = start_worker(connection, "work")
    claim(connection, "work", other)
    assert one(connection, store, other, 2, '"third"') == "first"
    with pytest.raises(Exception, match="no longer holds attempt 1"):
        one(connection, "select wakelog.record_step('work', 1, %s, 1, 'late', '1')", worker)
