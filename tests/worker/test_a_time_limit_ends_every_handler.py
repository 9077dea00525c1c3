"""A handler that does not end is ended at its time limit, whatever it does; that counts as a failed attempt."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import Looking, one, until

from wakelog import append_many

LIMIT = 0.5
TOLERANCE = 1.5

ENDLESS = {
    "async, sleeps": "async def endless(event, ctx): await asyncio.sleep(600)",
    "async, spins": """
async def endless(event, ctx):
    while True:
        pass
""",
    "sync, sleeps": "def endless(event, ctx): time.sleep(600)",
    "sync, spins": """
def endless(event, ctx):
    while True:
        pass
""",
    "sync, waits for the database": """
def endless(event, ctx): ctx.connection.execute("select pg_sleep(600)")
""",
    "a step of it spins": """
def spin():
    while True:
        pass

async def endless(event, ctx): await ctx.step("spin", spin)
""",
    "async, the model of its event spins": """
class Work(Endless): pass
event_model("work")(Work)

async def endless(event, ctx): ...
""",
    "sync, the model of its event spins": """
class Work(Endless): pass
event_model("work")(Work)

def endless(event, ctx): ...
""",
    "sync, the upcaster of its event spins": """
class Work(BaseModel): pass
event_model("work", version=2)(Work)

@upcaster("work", 1)
def spin(payload):
    while True:
        pass

def endless(event, ctx): ...
""",
    "async, the model of its answer spins": """
class Answer(Endless): pass
event_model("endless.completed", closed=True)(Answer)

async def endless(event, ctx): return {}
""",
    "sync, the model of its answer spins": """
class Answer(Endless): pass
event_model("endless.completed", closed=True)(Answer)

def endless(event, ctx): return {}
""",
}

MODELS = """
from pydantic import BaseModel, model_validator
from wakelog import event_model, upcaster

class Endless(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def spin(cls, value):
        while True:
            pass
"""

OTHERS = """
@app.agent("other", on="other", start="beginning")
async def other(event, ctx):
    return {}
"""


def declared(handler: str, *, max_attempts: int) -> str:
    return f"""
{MODELS if "BaseModel" in handler or "Endless" in handler else ""}
{handler}
app.agent("endless", on="work", start="beginning", timeout={LIMIT}, max_attempts={max_attempts}, backoff=Fixed(0))(
    endless)
{OTHERS}
"""


@pytest.mark.parametrize("handler", ENDLESS.values(), ids=ENDLESS.keys())
def test_it_ends_at_the_limit_and_counts_as_failed(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], handler: str
) -> None:
    workers = start_workers(declared(handler, max_attempts=1), slots=2, grace=1)
    connection.execute("select wakelog.append('work')")
    looking = Looking()
    looking.until(lambda: one(connection, "select count(*) from wakelog.dead"))
    took, reasons, stalled, error = connection.execute(
        "select extract(epoch from died_at - first_claimed_at)::float8,"
        "       jsonb_path_query_array(failures, '$[*].reason'), stalled, error from wakelog.dead_letters"
    ).fetchone()  # type: ignore[misc]
    assert LIMIT <= took <= LIMIT + TOLERANCE + looking.late
    assert (reasons, stalled) == (["failed"], 0)
    # And not that its process had to be ended for it.
    assert error == f"the time limit of {LIMIT} s passed"

    # The worker, or the one that replaced it, goes on with other work.
    connection.execute("select wakelog.append('other')")
    until(lambda: one(connection, "select count(*) from wakelog.history"))
    assert workers.supervisor.poll() is None


def test_a_backoff_that_does_not_end_is_ended_and_the_default_used(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    """Asked once for all of a batch; one that says itself when to come again is heard."""
    workers = start_workers(
        f"""
def spin(failures):
    while True:
        pass

@app.agent("agent", on="work", start="beginning", timeout={LIMIT}, max_attempts=2, batch=3, backoff=spin)
async def agent(events, ctx):
    for event in events:
        ctx.fail(event, RetryAfter("1h") if event.payload == {{"later": True}} else ValueError("no"))
{OTHERS}
""",
        slots=1,
    )
    process = one(connection, "select max(id) from wakelog.worker_sessions")
    append_many(
        connection, [{"type": "work"}, {"type": "work"}, {"type": "work", "payload": {"later": True}}]
    )
    until(lambda: one(connection, "select count(*) from wakelog.dead") == 2, within=60)
    found = connection.execute(
        "select distinct jsonb_path_query_array(failures, '$[*].reason'), stalled, error from wakelog.dead_letters"
    ).fetchall()
    assert found == [(["failed", "failed"], 0, "ValueError: no")]
    later = "select available_at - clock_timestamp() > '50 min' from wakelog.deliveries where attempt = 1"
    assert connection.execute(later).fetchall() == [(True,)]
    connection.execute("select wakelog.append('other')")
    until(lambda: one(connection, "select count(*) from wakelog.history"))
    assert one(connection, "select max(id) from wakelog.worker_sessions") == process
    assert workers.supervisor.poll() is None


def test_neighbours_of_a_spinner_are_given_back(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """Blocked past its own limit by another handler, an attempt has not failed: it did not get to run.

    The spinner's limit is longer by more than one may be late beside the other.
    """
    start_workers(
        """
        @app.agent("spinner", on="work", start="beginning", timeout=4.5, max_attempts=1)
        async def spinner(event, ctx):
            while not (folder / "neighbour.1").exists():
                await asyncio.sleep(0.01)
            while True:
                pass

        @app.agent("neighbour", on="work", start="beginning", timeout=1.5, max_attempts=1)
        async def neighbour(event, ctx):
            tries = len(list(folder.glob("neighbour.*"))) + 1
            (folder / f"neighbour.{tries}").touch()
            if tries == 1:
                await asyncio.sleep(0.4)
            return {"attempt": ctx.attempt, "tries": tries}
        """,
        slots=4,
    )
    connection.execute("select wakelog.append('work')")
    until(lambda: one(connection, "select count(*) from wakelog.history"))
    until(lambda: one(connection, "select count(*) from wakelog.dead"))
    assert connection.execute("select agent, reason from wakelog.dead_letters").fetchall() == [
        ("spinner", "max_attempts")
    ]
    result = one(connection, "select payload from wakelog.events where type = 'neighbour.completed'")
    assert result == {"attempt": 1, "tries": 2}


def test_having_waited_behind_a_spinner_is_no_excuse(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """Claimed together with it, but begun after it, an attempt that overstays for its own part has failed."""
    start_workers(
        """
        @app.agent("agent", on="work", start="beginning", timeout=0.5, max_attempts=1)
        async def agent(event, ctx):
            while event.payload == "spin":
                pass
            if event.payload == "sleep":
                (folder / "tries").open("a").write("x")
                await asyncio.sleep(600)
        """,
        slots=1,
    )
    # The quick ones let the worker see that it can claim many at a time. When it has, these two come into one hand.
    append = "select wakelog.append('work', to_jsonb(t)) from unnest(%s::text[]) t"
    connection.execute(append, [["quick"] * 400])
    until(lambda: one(connection, "select count(*) from wakelog.history") == 400)
    connection.execute(append, [["spin", "sleep"]])
    until(lambda: one(connection, "select count(*) from wakelog.dead") == 2)
    claims = "select count(distinct failures -> 0 ->> 'started_at') from wakelog.dead"
    assert one(connection, claims) == 1, "the test did not do what it was made for"
    assert (tmp_path / "tries").read_text() == "x"


BEYOND_HELP = """
    async def loop(event, ctx):
        "In the event loop, time.sleep holds up everything."
        if ctx.attempt == 1:
            time.sleep(600)
        return {}

    def thread(event, ctx):
        "A thread in it does not come back to Python, and is left behind."
        if ctx.attempt == 1:
            time.sleep(600)
        return {}

    def deaf(event, ctx):
        "Not even the watchdog's thread runs while C code keeps the interpreter's lock."
        if ctx.attempt == 1:
            import ctypes
            ctypes.PyDLL(None).sleep(600)
        return {}

    @app.agent("AGENT.neighbour", on="work", start="beginning")
    async def neighbour(event, ctx):
        return {}

    app.agent("AGENT", on="work", start="beginning", timeout=0.5, max_attempts=2, backoff=Fixed(0))(AGENT)
"""


def test_a_process_that_cannot_be_helped_is_replaced_and_nothing_is_lost(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    agents = ["loop", "thread", "deaf"]
    workers = {
        agent: start_workers(BEYOND_HELP.replace("AGENT", agent), slots=8, lease=2, grace=1, silence=6)
        for agent in agents
    }
    before = set(workers["loop"].pids().values())
    assert len(before) == len(agents)
    connection.execute("select wakelog.append('work') from generate_series(1, 3)")
    until(lambda: one(connection, "select count(*) from wakelog.history") == 2 * 3 * len(agents), within=60)
    until(lambda: len(now := set(workers["loop"].pids().values())) == len(agents) and not now & before)

    assert one(connection, "select count(*) from wakelog.dead") == 0
    results = "select count(*) from wakelog.events where type = any (%s)"
    assert one(connection, results, [f"{agent}.completed" for agent in agents]) == 3 * len(agents)
    reasons = connection.execute(
        "select a.name, array_agg(distinct f ->> 'reason')"
        "  from wakelog.history h join wakelog.agents a on a.id = h.agent_id,"
        "  jsonb_array_elements(h.failures) f where a.name = any (%s) group by 1",
        [agents],
    ).fetchall()
    # What the watchdog could tell has failed; the deaf one's was only noticed to be gone.
    assert {agent: "failed" in found for agent, found in reasons} == {
        "loop": True,
        "thread": True,
        "deaf": False,
    }
    assert "asked to be replaced" in workers["loop"].said()
    assert "asked to be replaced" in workers["thread"].said()
    assert "has been silent for" in workers["deaf"].said()
