import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import append, sequence
from tests.worker.waiting import one, until

# Handlers note their beginning and end, and wait in between for a file. The process notes when it is told to stop.
WAITING = """
import sys
Worker = sys.modules["__main__"].Worker

def stop(worker, stop=Worker.stop):
    stop(worker)
    (folder / "told to stop").touch()

Worker.stop = stop

def note(what, event):
    with (folder / what).open("a") as notes: notes.write(f"{event.position}\\n")

@app.agent("work", on="push", start="beginning", max_attempts=1)
async def work(event, ctx):
    note("begun", event)
    while not (folder / "go on").exists():
        await asyncio.sleep(0.01)
    note("ended", event)
    return ctx.attempt
"""

HELD = "select count(*) from wakelog.deliveries where worker is not null"
ATTEMPTS = "select array_agg(attempts) from wakelog.history"


def noted(folder: Path, what: str) -> list[int]:
    path = folder / what
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def test_what_runs_ends_and_what_has_not_begun_is_given_back_uncounted(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, *["push"] * 6)
    workers = start_workers(WAITING, slots=2, grace=20)
    until(lambda: len(noted(tmp_path, "begun")) == 2)
    workers.supervisor.send_signal(signal.SIGTERM)
    until((tmp_path / "told to stop").exists)
    assert one(connection, HELD) == 2
    append(connection, "push")
    sequence(connection)
    (tmp_path / "go on").touch()
    assert workers.supervisor.wait(20) == 0
    assert noted(tmp_path, "ended") == [1, 2]
    assert one(connection, "select count(*) from wakelog.workers") == 0
    assert one(connection, "select count(*) from wakelog.deliveries where attempt > 0") == 0
    start_workers(WAITING)
    until(lambda: one(connection, ATTEMPTS) == [1] * 7)
    assert noted(tmp_path, "ended") == [1, 2, 3, 4, 5, 6, 7]


def test_what_was_claimed_ahead_is_given_back_at_once(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "go on").touch()
    append(connection, *["push"] * 300)
    workers = start_workers(WAITING, slots=2, grace=20)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 300)
    (tmp_path / "go on").unlink()
    connection.execute("insert into wakelog.events (type) select 'push' from generate_series(1, 200)")
    until(lambda: one(connection, HELD) > 2)  # more than it has slots
    workers.supervisor.send_signal(signal.SIGTERM)
    until(lambda: one(connection, HELD) == 2)
    assert one(connection, "select count(*) from wakelog.deliveries where worker is null and attempt = 0") > 0
    (tmp_path / "go on").touch()
    assert workers.supervisor.wait(20) == 0
    start_workers(WAITING)
    until(lambda: one(connection, "select count(*) from wakelog.history where attempts = 1") == 500)
    assert len(noted(tmp_path, "ended")) == len(set(noted(tmp_path, "ended"))) == 500


QUICK = """
@app.agent("quick", on="push", start="beginning", max_attempts=1)
async def quick(event, ctx): ...

@app.agent("batches", on="pull", start="beginning", max_attempts=1, batch=100)
async def batches(events, ctx): ...
"""


@pytest.mark.parametrize("type_", ["push", "pull"], ids=["one by one", "in batches"])
def test_a_claim_that_is_under_way_while_quick_work_is_done_is_given_back_too(
    connection: Connection[Any], start_workers: Callable[..., Any], type_: str
) -> None:
    connection.execute("insert into wakelog.events (type) select %s from generate_series(1, 60000)", [type_])
    sequence(connection)
    workers = start_workers(QUICK, slots=4)
    until(lambda: one(connection, "select count(*) from wakelog.history") > 3000)
    workers.supervisor.send_signal(signal.SIGTERM)
    assert workers.supervisor.wait(20) == 0
    assert one(connection, HELD) == 0
    assert one(connection, "select count(*) from wakelog.deliveries where attempt > 0") == 0
    done = one(connection, "select count(*) from wakelog.history")
    assert done < 60000
    start_workers(QUICK, slots=4)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 60000, within=90)
    assert one(connection, "select count(*) from wakelog.history where attempts <> 1") == 0


def test_after_the_grace_time_it_is_given_back_uncounted(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, "push", "push")
    workers = start_workers(WAITING, grace=0.5)
    until(lambda: len(noted(tmp_path, "begun")) == 2)
    at = time.monotonic()
    workers.supervisor.send_signal(signal.SIGTERM)
    assert workers.supervisor.wait(10) == 0
    assert 0.5 <= time.monotonic() - at < 5
    waiting = connection.execute("select worker, attempt, stalled from wakelog.deliveries").fetchall()
    assert waiting == [(None, 0, 0), (None, 0, 0)]
    (tmp_path / "go on").touch()
    start_workers(WAITING)
    until(lambda: one(connection, ATTEMPTS) == [1, 1])


def test_a_second_signal_hurries_and_loses_nothing(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, "push")
    workers = start_workers(WAITING, grace=60)
    until(lambda: len(noted(tmp_path, "begun")) == 1)
    workers.supervisor.send_signal(signal.SIGTERM)
    at = time.monotonic()
    workers.supervisor.send_signal(signal.SIGINT)  # another, for two of the same may become one
    workers.supervisor.wait(10)
    assert time.monotonic() - at < 5
    (tmp_path / "go on").touch()
    start_workers(WAITING)
    until(lambda: one(connection, "select count(*) from wakelog.history") == 1)
    assert one(connection, "select count(*) from wakelog.dead") == 0


def test_workers_whose_supervisor_was_killed_finish_and_stop_by_themselves(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append(connection, "push", "push")
    workers = start_workers(WAITING, processes=2, slots=1, grace=20)
    until(lambda: len(noted(tmp_path, "begun")) == 2)
    pids = list(workers.pids().values())
    workers.supervisor.kill()
    workers.supervisor.wait(10)
    append(connection, "push")
    (tmp_path / "go on").touch()
    until(lambda: not any(map(lives, pids)))
    assert one(connection, "select count(*) from wakelog.workers") == 0
    assert one(connection, "select count(*) from wakelog.deliveries where attempt > 0") == 0
    assert noted(tmp_path, "ended")[:2] == [1, 2]
    start_workers(WAITING)
    until(lambda: one(connection, ATTEMPTS) == [1, 1, 1])


def lives(pid: int) -> bool:
    """Whether a process that is not our child still runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
