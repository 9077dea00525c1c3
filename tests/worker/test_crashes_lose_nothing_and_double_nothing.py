"""Workers are killed and the server crashes while they work: every job is done, and its effect is there once."""

import random
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
import pytest
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import until

from wakelog.testing import ThrowawayPostgres

APP = """
    import random

    @app.agent("job", on="job.wanted", start="beginning", max_stalled=1000, max_attempts=1)
    async def job(event, ctx):
        await ctx.connection.execute("insert into effects (event) values (%s)", [event.payload["n"]])
        await asyncio.sleep(random.uniform(0.05, 0.25))
        return {"n": event.payload["n"]}
"""


class Run:
    """Jobs in a database whose server may be away at any moment; every question opens a connection of its own."""

    def __init__(self, server: ThrowawayPostgres, jobs: int) -> None:
        self.server = server
        self.url = server.url()
        # Not even a constraint keeps a second effect out.
        self.ask("create table effects (event bigint)")
        self.jobs = 0
        self.want(jobs)

    def want(self, more: int) -> None:
        """Append so many jobs."""
        self.ask(
            """select count(wakelog.append('job.wanted', jsonb_build_object('n', n)))
               from generate_series(%s::bigint, %s::bigint) n""",
            self.jobs + 1,
            self.jobs + more,
        )
        self.jobs += more

    def ask(self, query: LiteralString, *parameters: object) -> Any:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else None

    def done(self) -> int:
        return self.ask("select count(*) from wakelog.history where outcome = 'completed'")[0][0]

    def kill_one_at_work(self, workers: WorkerProcesses) -> None:
        busy = self.ask("select worker from wakelog.workers where alive and in_flight > 0")
        pids = [pid for worker, pid in workers.pids().items() if (worker,) in busy]
        if pids:
            workers.kill(random.choice(pids))

    def stalled_shown(self) -> int:
        return self.ask("select stalled::int from wakelog.lag where agent = 'job'")[0][0]


def survive(
    server: ThrowawayPostgres, start_workers: Callable[..., WorkerProcesses],
    *, jobs: int, processes: int, kills: int, crashes: int, within: float,
) -> None:  # fmt: skip
    run = Run(server, jobs)
    workers = start_workers(APP, url=run.url, processes=processes, slots=4, lease=5)
    kill_at = sorted(random.sample(range(int(jobs * 0.9)), kills))
    crash_at = [jobs * (n + 1) // (crashes + 1) for n in range(crashes)]
    stalled_shown = 0

    def all_done() -> bool:
        nonlocal stalled_shown
        done = run.done()
        if crash_at and done >= crash_at[0]:
            crash_at.pop(0)
            server.crash()
            server.start()
        if kill_at and done >= kill_at[0]:
            before = workers.killed
            run.kill_one_at_work(workers)
            if workers.killed > before:
                kill_at.pop(0)
        stalled_shown = max(stalled_shown, run.stalled_shown())
        if kill_at and done >= run.jobs - 20:
            run.want(20)  # for nobody is killed over nothing
        return done >= run.jobs

    until(all_done, within=within)
    jobs = run.jobs

    assert (workers.killed, crash_at) == (kills, []), "the test did not do what it was made for"
    assert run.ask("select count(*), count(distinct event) from effects") == [(jobs, jobs)]
    assert run.ask(
        "select count(*), count(distinct causation_id) from wakelog.events where type = 'job.completed'"
    ) == [(jobs, jobs)]
    assert run.ask("select in_flight, retrying, dead from wakelog.lag where agent = 'job'") == [(0, 0, 0)]
    assert run.ask("select count(*) from wakelog.history where attempts <> stalled + 1") == [(0,)]
    assert stalled_shown > 0
    stalled = run.ask("select sum(stalled)::int, sum(jsonb_array_length(failures))::int from wakelog.history")
    assert stalled[0][0] == stalled[0][1] >= stalled_shown


def test_killed_workers_and_a_crashed_server_lose_nothing(
    crashable_server: ThrowawayPostgres, start_workers: Callable[..., WorkerProcesses]
) -> None:
    survive(crashable_server, start_workers, jobs=100, processes=3, kills=6, crashes=1, within=60)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_hundreds_of_kills_and_many_crashes_lose_nothing(
    crashable_server: ThrowawayPostgres, start_workers: Callable[..., WorkerProcesses]
) -> None:
    survive(crashable_server, start_workers, jobs=2000, processes=8, kills=200, crashes=20, within=1700)
