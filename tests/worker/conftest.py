"""For tests of workers: `start_workers` runs real processes, `connection` looks at what they did.

    def test_...(connection, start_workers):
        workers = start_workers('''
            @app.agent("echo", on="ping", start="beginning")
            def echo(event, ctx): return event.payload
        ''', processes=3, lease=5)
        connection.execute("select wakelog.append('ping')")
        until(lambda: one(connection, "select count(*) from wakelog.events where type = 'echo.completed'"))

`until` and `one` are in tests/worker/waiting.py. Workers have pids(), kill(pid), freeze(pid), thaw(pid), said() and
stop().
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from tests.worker.processes import WorkerProcesses, write_app
from tests.worker.supervisors import Supervisors

from wakelog.worker.supervisor import SILENCE

StartWorkers = Callable[..., WorkerProcesses]


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to the test's database; each statement is a transaction."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def start_workers(
    request: pytest.FixtureRequest, supervisors: Supervisors, tmp_path: Path
) -> Iterator[StartWorkers]:
    """Start workers of an application given as source; those still running are stopped at the end.

    On the test's `database`, unless it says `url=`. `within` is a command that runs another, as `nice` does, `silence`
    how many seconds a process may say nothing before it is killed, if that is more than one and a half leases. The
    source finds `app`, what agents are declared with, asyncio, os, time and Path there, and `folder`, which is the
    test's `tmp_path`.
    """
    started: list[WorkerProcesses] = []
    numbers = itertools.count(1)

    def start(
        source: str,
        *,
        url: str | None = None,
        processes: int = 1,
        slots: int = 4,
        lease: float = 30.0,
        grace: float = 5.0,
        silence: float = SILENCE,
        within: Sequence[str] = (),
    ) -> WorkerProcesses:
        app = write_app(tmp_path / f"app_{next(numbers)}.py", source)
        where: str = url or request.getfixturevalue("database")
        workers = WorkerProcesses(
            supervisors,
            app,
            where,
            processes=processes,
            slots=slots,
            lease=lease,
            grace=grace,
            silence=silence,
            within=within,
        )
        started.append(workers)
        return workers

    yield start
    for workers in started:
        workers.stop()
    for workers in started:
        for complaint in ("Task was destroyed", "never retrieved", "never awaited"):
            assert complaint not in workers.said()
