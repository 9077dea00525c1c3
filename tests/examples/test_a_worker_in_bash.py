"""A worker needs nothing but psql: examples/worker.sh claims, works, holds on to its lease, acks and fails."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from wakelog.postgres.binaries import Binaries

WORKER = Path(__file__).parents[2] / "examples" / "worker.sh"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(database: str, binaries: Binaries, tmp_path: Path) -> Start:
    """Starts the script for an agent `bash` that wants `job`, with a piece of bash as its command."""
    psql = binaries.program("psql")
    if not psql.exists() and shutil.which("psql") is None:
        pytest.skip("there is no psql")

    def begin(command: str, **settings: str) -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "PATH": f"{psql.parent}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path),
            "DATABASE_URL": database,
            **settings,
        }
        return subprocess.Popen(
            [str(WORKER), "bash", "job", "bash", "-c", command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def _append(database: str, *payloads: str) -> None:
    with psycopg.connect(database) as connection:
        for payload in payloads:
            connection.execute("insert into wakelog.events (type, payload) values ('job', %s)", [payload])


def _rows(database: str, query: Any) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(query).fetchall()


def _until(held: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not held():
        assert time.monotonic() < until, "waited for 20 seconds in vain"
        time.sleep(0.02)


def test_each_event_is_worked_once_and_its_output_becomes_an_event(database: str, start: Start) -> None:
    nasty = r"""{"text": "tab\tnew\nline \\ ' :'agent' $(exit 1) \"; drop schema wakelog cascade; -- ü"}"""
    _append(database, '{"text": "one"}', nasty, '{"text": "three"}')

    worker = start('cat; echo " $EVENT_TYPE $ATTEMPT"', ONCE="1")
    said, _ = worker.communicate(timeout=30)

    assert worker.returncode == 0, said
    answers = _rows(
        database,
        """select a.payload ->> 'output', e.payload::text from wakelog.events a
           join wakelog.events e on e.id = a.causation_id
           where a.type = 'bash.completed' order by e.seq""",
    )
    assert len(answers) == 3
    for output, payload in answers:
        assert output == f"{payload}\n job 1"
    assert _rows(database, "select * from wakelog.in_flight") == []
    assert _rows(database, "select * from wakelog.workers") == []


def test_a_failing_job_is_retried_and_then_given_up_with_what_it_said(database: str, start: Start) -> None:
    _append(database, '{"n": 1}', '{"n": 2}')

    worker = start('if grep -q 1; then echo "it \xff said no" >&2; exit 3; fi', ONCE="1")
    said, _ = worker.communicate(timeout=30)

    assert worker.returncode == 0, said
    dead = _rows(database, "select reason, attempts, error, payload ->> 'n' from wakelog.dead_letters")
    assert [(reason, attempts, n) for reason, attempts, _, n in dead] == [("max_attempts", 3, "1")]
    assert "said no" in dead[0][2]
    assert "exit code 3" in dead[0][2]
    told = _rows(database, "select type from wakelog.events where source = 'bash' order by seq")
    assert sorted(told) == [("bash.completed",), ("bash.failed",)]


def test_an_output_that_the_database_cannot_store_is_a_failure(database: str, start: Start) -> None:
    _append(database, "{}")

    worker = start(r"printf '\377\376'", ONCE="1")
    worker.communicate(timeout=30)

    assert worker.returncode == 0
    assert _rows(database, "select count(*) from wakelog.dead_letters") == [(1,)]


def test_long_work_keeps_its_lease(database: str, start: Start, tmp_path: Path) -> None:
    _append(database, "{}")
    go_on = tmp_path / "go on"

    worker = start(f"while [[ ! -e '{go_on}' ]]; do sleep 0.05; done", ONCE="1", LEASE="9")
    try:
        lease: Any = "select available_at from wakelog.in_flight where state = 'running'"
        _until(lambda: len(_rows(database, lease)) == 1)
        first = _rows(database, lease)
        _until(lambda: _rows(database, lease) > first)
    finally:
        go_on.touch()
        said, _ = worker.communicate(timeout=30)

    assert worker.returncode == 0, said
    assert _rows(database, "select attempts, stalled, outcome from wakelog.history") == [(1, 0, "completed")]


def test_a_worker_told_to_stop_gives_its_work_back_untried(
    database: str, start: Start, tmp_path: Path
) -> None:
    _append(database, "{}")
    worker = start(f"touch '{tmp_path}/begun'; sleep 30")
    try:
        _until(lambda: (tmp_path / "begun").exists())
    finally:
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=30)

    assert worker.returncode == 143, said
    assert _rows(database, "select state, attempt from wakelog.in_flight") == [("waiting", 0)]
    assert _rows(database, "select * from wakelog.workers") == []


def test_told_in_the_moment_of_its_claim_it_gives_back_what_that_brings(database: str, start: Start) -> None:
    worker = start("sleep 30")
    _until(lambda: _rows(database, "select count(*) from wakelog.workers") == [(1,)])
    with psycopg.connect(database) as busy:
        busy.execute("select from wakelog.cursors for update")
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%claim(%'"
        )
        try:
            _until(lambda: _rows(database, waiting) == [(1,)])
            # Only now: a claim that began before this is in the log takes it all the same, once it has the lock.
            _append(database, "{}")
            _rows(database, "select 1 from wakelog.sequence()")
        finally:
            worker.send_signal(signal.SIGTERM)
        busy.commit()
    said, _ = worker.communicate(timeout=30)

    assert worker.returncode == 143, said
    assert _rows(database, "select state, attempt, stalled from wakelog.in_flight") == [("waiting", 0, 0)]
    assert _rows(database, "select * from wakelog.workers") == []
