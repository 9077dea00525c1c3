"""A worker, a doorkeeper and a producer of the first schema go on while it is upgraded, and beside today's workers."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.schema.first_schema import make_first_schema
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import append
from wakelog.postgres.schema import upgrade

OLD_WORKER = Path(__file__).parents[1] / "schema" / "old_worker.py"

# The agents of the old worker, as today's applications declare them.
APP = """
    @app.agent("effect", on="job.wanted", ordered_by="payload.key", start="beginning")
    async def effect(event, ctx):
        await ctx.connection.execute(
            "insert into effects (key, n) values (%s, %s)", [event.payload["key"], event.payload["n"]])
        return {"n": event.payload["n"]}

    @app.agent("answer", on="job.wanted", start="beginning")
    async def answer(event, ctx):
        return {"n": event.payload["n"]}

    @app.agent("trouble", on="job.wanted", start="beginning", backoff=Fixed(0.02), max_attempts=3)
    async def trouble(event, ctx):
        if ctx.attempt == 1:
            raise RuntimeError("not yet")
        await ctx.step("half", lambda: event.payload["n"])
        return {"n": event.payload["n"]}
"""

EFFECTS = "create table effects (place bigint generated always as identity, key text, n bigint)"
FINISHED = "select count(*) from wakelog.history where outcome = 'completed'"
FINISHED_BY = "select count(distinct agent_id) from wakelog.history where worker = %s and finished_at > %s"
ALL_IN_THE_LOG = """
select (select count(*) from wakelog.events) = count(*) and count(*) = max(position) from wakelog.log
"""
AGENTS = ("effect", "answer", "trouble")


class OldWorker:
    """One of the first schema, in a process of its own, with its producer and its doorkeeper."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(OLD_WORKER), url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def goes_on(self, condition: Callable[[], bool]) -> None:
        """Wait for a state, in which it has seen no error."""
        until(lambda: self.process.poll() is not None or condition())
        if self.process.poll() is not None:
            raise AssertionError(self.process.communicate()[1])

    def stop(self) -> dict[str, int]:
        """Have it finish what it has in hand; what it tells of its life."""
        said, error = self.process.communicate(timeout=15)
        assert self.process.returncode == 0, error
        return json.loads(said)


@pytest.fixture
def old(empty_database: str) -> Iterator[OldWorker]:
    """A worker of the first schema at work on a database of its time."""
    make_first_schema(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute(EFFECTS)
    worker = OldWorker(empty_database)
    yield worker
    worker.process.kill()
    worker.process.communicate()


def works_for_every_agent(connection: Connection[Any], worker: int) -> Callable[[], bool]:
    """Whether this worker has finished something for each agent from now on."""
    now = one(connection, "select clock_timestamp()")
    return lambda: one(connection, FINISHED_BY, worker, now) == len(AGENTS)


@pytest.mark.every_postgres
def test_nothing_is_lost_doubled_or_refused(
    old: OldWorker, empty_database: str, start_workers: StartWorkers
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        old.goes_on(lambda: one(connection, FINISHED) > 100)
        old_id = one(connection, "select worker from wakelog.workers")

        assert upgrade(empty_database).state == "current"
        old.goes_on(works_for_every_agent(connection, old_id))

        today = start_workers(APP, url=empty_database, processes=2)
        more = itertools.count(1_000_000)

        def works_among_others(worker: int) -> Callable[[], bool]:
            """At each look comes more than one worker has room for: of two asleep, the same is rung each time."""
            works = works_for_every_agent(connection, worker)

            def look() -> bool:
                for n in itertools.islice(more, 20):
                    append(connection, "job.wanted", {"n": n, "key": f"new {n % 5}"})
                return works()

            return look

        for new_id in today.pids().keys() - {old_id}:
            old.goes_on(works_among_others(new_id))
        old.goes_on(works_among_others(old_id))
        life = old.stop()
        assert life["refused"] <= 1, "expected at most the call under way at the upgrade to be refused"

        wanted = [*range(1, life["appended"] + 1), *range(1_000_000, next(more))]
        until(lambda: one(connection, FINISHED) >= len(AGENTS) * len(wanted))
        each_once_and_in_order(connection, wanted)


def each_once_and_in_order(connection: Connection[Any], wanted: list[int]) -> None:
    """See that every event had one effect, in the order of its key, and one answer of each agent."""
    effects = connection.execute("select key, n from effects order by place").fetchall()
    assert sorted(n for _, n in effects) == wanted
    for key in {key for key, _ in effects}:
        of_key = [n for its_key, n in effects if its_key == key]
        assert of_key == sorted(of_key)
    for agent in AGENTS:
        answers = connection.execute(
            "select (payload ->> 'n')::bigint from wakelog.events where type = %s order by 1",
            [f"{agent}.completed"],
        ).fetchall()
        assert [n for (n,) in answers] == wanted
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert one(connection, "select count(*) from wakelog.deliveries") == 0
    assert one(connection, "select count(*) from wakelog.history where stalled > 0") == 0
    until(lambda: one(connection, ALL_IN_THE_LOG))
