import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one, until


def positions(deliveries: list[tuple[int, int, str]]) -> list[int]:
    return [position for position, _, _ in deliveries]


def test_a_new_agent_begins_where_it_says(connection: Connection[Any], database: str) -> None:
    append(connection, "push", "push")
    sequence(connection)
    with psycopg.connect(database) as slow:
        append(slow, "push")  # commits after "now"
        moment: datetime = one(connection, "select clock_timestamp()")
        append(connection, "push")  # committed before "now", though nobody has sequenced it
        starts = {
            "now": "now",
            "beginning": "beginning",
            "third": 3,
            "moment": moment.isoformat(),
            "future": 6,
        }
        for agent, start in starts.items():
            register(connection, agent, "push", start=start)
        slow.commit()
    append(connection, "push", "push")
    sequence(connection)
    worker = start_worker(connection, *starts)
    assert {agent: positions(claim(connection, agent, worker)) for agent in starts} == {
        "now": [4, 5, 6],
        "beginning": [1, 2, 3, 4, 5, 6],
        "third": [3, 4, 5, 6],
        "moment": [3, 4, 5, 6],
        "future": [6],
    }
    # Where it begins counts the first time only: a restart goes on where it was.
    append(connection, "push")
    register(connection, "now", "push", start="now")
    register(connection, "third", "push", start="beginning")
    sequence(connection)
    assert positions(claim(connection, "now", worker)) == positions(claim(connection, "third", worker)) == [7]


def test_a_rewind_delivers_anew_but_not_what_is_in_flight(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    append(connection, *["push"] * 6)
    sequence(connection)
    worker = start_worker(connection, "work")
    deliveries = claim(connection, "work", worker)
    for position in (1, 4):
        one(connection, "select wakelog.record_step('work', %s, %s, 1, 'build', '5')", position, worker)
    ack(connection, "work", worker, deliveries[:2])
    fail(connection, "work", worker, deliveries[2], final=True)
    fail(connection, "work", worker, deliveries[4])
    # 1 and 2 are done, 3 is dead, 4 and 6 are being worked on, 5 waits.
    assert one(connection, "select wakelog.rewind_agent('work', 1)") == 6
    assert positions(claim(connection, "work", worker)) == [1, 2, 3]
    assert one(connection, "select count(*) from wakelog.dead") == 0
    kept = connection.execute("select position from wakelog.steps").fetchall()
    assert kept == [(4,)], "the steps of what is in flight stay, those of what is delivered anew go"
    ack(connection, "work", worker, [deliveries[3], deliveries[5]])
    assert claim(connection, "work", worker) == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_dead_letter_that_is_retried_during_a_rewind_is_handed_out_once(
    connection: Connection[Any], database: str, end: str
) -> None:
    """The claim waits for the retry, and either way nothing is refused, lost or doubled."""
    register(connection, "work", "push")
    append(connection, *["push"] * 3)
    sequence(connection)
    worker = start_worker(connection, "work", locked=False)
    first, dead, last = claim(connection, "work", worker)
    ack(connection, "work", worker, [first, last])
    fail(connection, "work", worker, dead, final=True)
    claimed: list[int] = []

    def claim_all() -> None:
        with psycopg.connect(database, autocommit=True) as other:
            claimed.extend(positions(claim(other, "work", worker)))

    with psycopg.connect(database) as retrying:
        retrying.execute("select wakelog.retry_dead('work', 2)")
        connection.execute("select wakelog.rewind_agent('work', 1)")
        claiming = threading.Thread(target=claim_all)
        claiming.start()
        waits = """select count(*) from pg_stat_activity
                   where wait_event_type = 'Lock' and datname = current_database()"""
        until(lambda: one(connection, waits))
        retrying.commit() if end == "commit" else retrying.rollback()
    claiming.join(20)
    claimed += positions(claim(connection, "work", worker))
    assert sorted(claimed) == [1, 2, 3]


def test_a_rewind_may_keep_the_steps(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    append(connection, "push", "push", "push")
    sequence(connection)
    worker = start_worker(connection, "work")
    deliveries = claim(connection, "work", worker)
    for position in (1, 2, 3):
        one(connection, "select wakelog.record_step('work', %s, %s, 1, 'build', '5')", position, worker)
    ack(connection, "work", worker, deliveries)
    assert one(connection, "select wakelog.rewind_agent('work', 2, true)") == 2
    assert one(connection, "select count(*) from wakelog.steps") == 3
    assert one(connection, "select wakelog.rewind_agent('work', 3)") == -1
    assert one(connection, "select wakelog.rewind_agent('work', 2)") == 1
    assert connection.execute("select position from wakelog.steps").fetchall() == [(1,)]
    assert positions(claim(connection, "work", worker)) == [2, 3]


@pytest.mark.parametrize("position", [0, -1, 5, None])
def test_a_rewind_to_nowhere_is_refused(connection: Connection[Any], position: int | None) -> None:
    register(connection, "work", "push")
    append(connection, "push", "push", "push")
    sequence(connection)
    with pytest.raises(psycopg.Error, match="expected a position from 1 to 4, found"):
        one(connection, "select wakelog.rewind_agent('work', %s)", position)


def test_a_rewind_forward_skips(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    append(connection, "push", "push", "push")
    sequence(connection)
    assert one(connection, "select wakelog.rewind_agent('work', 3)") == -2
    worker = start_worker(connection, "work")
    assert positions(claim(connection, "work", worker)) == [3]


def test_a_paused_agent_gets_nothing_and_goes_on_where_it_stopped(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    start_workers("""
        @app.agent("paused", on="push", start="beginning")
        async def paused(event, ctx): return event.position

        @app.agent("other", on="push", start="beginning")
        async def other(event, ctx): return event.position
    """)
    done = "select count(*) from wakelog.events where type = %s"
    append(connection, "push")
    until(lambda: one(connection, done, "paused.completed") == 1)
    connection.execute("select wakelog.pause_agent('paused')")
    append(connection, "push", "push")
    until(lambda: one(connection, done, "other.completed") == 3)
    # All asleep, and the worker has looked by itself as well.
    until(lambda: one(connection, "select bool_and(asleep) from wakelog.workers"))
    looked = one(connection, "select max(seen_at) from wakelog.workers")
    until(lambda: one(connection, "select max(seen_at) from wakelog.workers") > looked)
    assert one(connection, done, "paused.completed") == 1
    assert one(connection, "select behind from wakelog.lag where agent = 'paused'") == 2
    assert one(connection, "select paused_at is not null from wakelog.lag where agent = 'paused'")
    connection.execute("select wakelog.resume_agent('paused')")
    until(lambda: one(connection, done, "paused.completed") == 3)
    assert one(connection, "select count(*) from wakelog.deliveries") == 0


def test_an_agent_removed_under_its_worker_is_forgotten_and_the_others_go_on(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    workers = start_workers("""
        @app.agent("removed", on="push", start="beginning")
        async def removed(event, ctx):
            (folder / "begun").touch()
            while not (folder / "go on").exists(): await asyncio.sleep(0.01)
            if event.payload: raise ValueError("no luck")
            return event.position

        @app.agent("held", on="push", start="beginning")
        async def held(event, ctx):
            while not (folder / "go on").exists(): await asyncio.sleep(0.01)
            return ctx.attempt

        @app.agent("other", on="push", start="beginning")
        async def other(event, ctx): return ctx.attempt
    """, slots=12)  # fmt: skip
    pids = workers.pids()
    done = "select count(*) from wakelog.events where type = %s and payload = '1'"
    append(connection, "push")
    append(connection, "push", payload={"fails": True})
    until((tmp_path / "begun").exists)
    until(lambda: one(connection, done, "other.completed") == 2)
    until(lambda: one(connection, "select count(*) from wakelog.deliveries") == 4)
    connection.execute("select wakelog.remove_agent('removed')")
    append(connection, "push")
    until(lambda: one(connection, done, "other.completed") == 3)
    (tmp_path / "go on").touch()
    until(lambda: one(connection, done, "held.completed") == 3)
    append(connection, "push")
    until(lambda: one(connection, done, "other.completed") == 4)
    assert workers.pids() == pids, "the worker had to start anew"
    assert one(connection, "select count(*) from wakelog.agents where name = 'removed'") == 0
    assert one(connection, "select count(*) from wakelog.events where type like 'removed.%%'") == 0
    until(lambda: 'there is no agent "removed"' in workers.said())


def test_a_worker_whose_only_agent_was_removed_idles(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    workers = start_workers("""
        @app.agent("only", on="push", start="beginning")
        async def only(event, ctx): return event.position
    """)
    pids = workers.pids()
    connection.execute("select wakelog.remove_agent('only')")
    append(connection, "push")
    until(lambda: 'there is no agent "only" any more' in workers.said())
    until(lambda: one(connection, "select bool_and(asleep) from wakelog.workers"))
    assert workers.pids() == pids, "the worker had to start anew"
    assert one(connection, "select count(*) from wakelog.agents") == 0


def test_what_is_left_of_a_removed_agent_are_its_events(connection: Connection[Any]) -> None:
    register(connection, "work", "push")
    append(connection, *["push"] * 4)
    sequence(connection)
    worker = start_worker(connection, "work")
    deliveries = claim(connection, "work", worker, limit=3)
    one(connection, "select wakelog.record_step('work', 1, %s, 1, 'build', '5')", worker)
    ack(connection, "work", worker, deliveries[:1])
    fail(connection, "work", worker, deliveries[1], final=True)
    connection.execute("select wakelog.remove_agent('work')")
    for table in ("agents", "cursors", "agent_types", "deliveries", "dead", "steps", "history"):
        assert one(connection, f"select count(*) from wakelog.{table}") == 0, table  # pyright: ignore
    assert one(connection, "select count(*) from wakelog.events") == 5  # and work.failed
    with pytest.raises(psycopg.Error, match='there is no agent "work"'):
        ack(connection, "work", worker, deliveries[2:])
    register(connection, "work", "push")
    assert positions(claim(connection, "work", worker)) == [1, 2, 3, 4]
