"""A bounded agent: producers wait, time out or are refused as they say, and never have more than so many unfinished."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg
import pytest
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one, until

from wakelog import BadInput, CapacityReached
from wakelog import append as append_event
from wakelog.log.append import append_many

TAKEN = "select taken from wakelog.capacity where agent = 'agent'"
INSERT = "insert into wakelog.events (type) values ('job')"


def fill(connection: psycopg.Connection, count: int) -> None:
    connection.execute("insert into wakelog.events (type) select 'job' from generate_series(1, %s)", [count])


def test_512_are_taken_and_the_513th_is_refused(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=512)
    for _ in range(512):
        append_event(connection, "job")
    with pytest.raises(CapacityReached, match='agent "agent" has 512 unfinished events'):
        append_event(connection, "job")
    with pytest.raises(CapacityReached):
        append_many(connection, [{"type": "job"}])
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(INSERT)
    assert refused.value.sqlstate == "WL008"
    append_event(connection, "other")  # no business of this agent
    assert one(connection, "select count(*) from wakelog.events where type = 'job'") == 512


def test_one_that_waits_for_a_time_is_refused_after_it(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=2)
    fill(connection, 2)
    before = time.monotonic()
    with pytest.raises(CapacityReached):
        append_event(connection, "job", backpressure=0.3)
    assert 0.3 <= time.monotonic() - before < 3
    with pytest.raises(BadInput, match="backpressure"):
        append_event(connection, "job", backpressure="patiently")


def test_one_that_waits_goes_on_when_there_is_room(connection: psycopg.Connection, database: str) -> None:
    register(connection, "agent", "job", capacity=2)
    worker = start_worker(connection, "agent")
    fill(connection, 2)
    sequence(connection)
    appended = threading.Event()

    def wait() -> None:
        with psycopg.connect(database, autocommit=True, application_name="waiting") as producer:
            append_event(producer, "job", backpressure="wait")
            appended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    until(
        lambda: one(
            connection,
            "select wait_event = 'PgSleep' from pg_stat_activity where application_name = 'waiting'",
        )
    )
    assert not appended.is_set()
    got = claim(connection, "agent", worker, 1)
    assert not appended.wait(0.2)  # handed out is not finished
    ack(connection, "agent", worker, got)
    assert appended.wait(20)
    thread.join()
    assert one(connection, TAKEN) == 2


def _race(url: str, rounds: int, mode: str, pipe: Pipe) -> None:
    committed = refused = 0
    with psycopg.connect(url) as connection:
        for n in range(rounds):
            try:
                append_event(connection, "job", backpressure=mode)  # pyright: ignore
                if n % 7 == 3:
                    connection.rollback()
                else:
                    connection.commit()
                    committed += 1
            except CapacityReached:
                connection.rollback()
                refused += 1
    pipe.send((committed, refused))


def race(url: str, producers: int, rounds: int, mode: str) -> list[tuple[int, int]]:
    # What they import, they import once for all of them.
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([__name__])
    racing: list[tuple[Any, Any]] = []
    for _ in range(producers):
        mine, theirs = forking.Pipe()
        process = forking.Process(target=_race, args=(url, rounds, mode, theirs))
        process.start()
        racing.append((process, mine))
    results: list[tuple[int, int]] = [mine.recv() for _, mine in racing]
    for process, _ in racing:
        process.join()
    return results


def test_20_racing_producers_never_exceed_512(connection: psycopg.Connection, database: str) -> None:
    register(connection, "agent", "job", capacity=512)
    results = race(database, 20, 60, "refuse")
    assert sum(committed for committed, _ in results) == 512
    assert sum(refused for _, refused in results) > 0
    assert one(connection, "select count(*) from wakelog.events where type = 'job'") == 512
    assert one(connection, TAKEN) == 512


def test_racing_producers_that_wait_all_get_through(
    connection: psycopg.Connection, database: str, start_workers: Callable[..., Any]
) -> None:
    start_workers("""
        @app.agent("agent", on="job", start="beginning", capacity=5)
        async def work(event, ctx): ...
    """)
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        with psycopg.connect(database, autocommit=True) as eyes:
            while not done.is_set():
                most = max(most, one(eyes, "select behind + in_flight + retrying from wakelog.lag"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        results = race(database, 4, 30, "wait")
    finally:
        done.set()
        thread.join()
    assert results == [(26, 0)] * 4
    assert most <= 5
    until(lambda: one(connection, TAKEN) == 0)


def test_producers_do_not_wait_for_one_another(connection: psycopg.Connection, database: str) -> None:
    register(connection, "agent", "job", capacity=2)
    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        slow.execute(INSERT)  # and it stays open
        quick.execute("set lock_timeout = '5s'")
        quick.execute(INSERT)
        with pytest.raises(psycopg.Error, match="capacity"):
            quick.execute(INSERT)
        slow.rollback()
        quick.execute(INSERT)


def test_room_is_made_by_finishing_whichever_way(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=3)
    worker = start_worker(connection, "agent")
    fill(connection, 3)
    sequence(connection)
    first, second, _ = claim(connection, "agent", worker)
    fail(connection, "agent", worker, first)
    assert one(connection, TAKEN) == 3  # it is tried again
    fail(connection, "agent", worker, second, final=True)
    assert one(connection, TAKEN) == 2
    fill(connection, 1)
    connection.execute("select wakelog.remove_agent('agent')")
    fill(connection, 100)


def test_a_repeated_idempotency_key_takes_no_room(connection: psycopg.Connection, database: str) -> None:
    register(connection, "agent", "job", capacity=1)
    for _ in range(3):
        append_event(connection, "job", idempotency_key="same")
    assert one(connection, TAKEN) == 1


def test_capacity_grows_shrinks_and_counts_what_is_there(connection: psycopg.Connection) -> None:
    fill(connection, 4)
    sequence(connection)
    register(connection, "agent", "job", capacity=5)
    worker = start_worker(connection, "agent")
    fill(connection, 1)
    with pytest.raises(psycopg.Error, match="capacity"):
        fill(connection, 1)
    register(connection, "agent", "job", capacity=6)
    fill(connection, 1)
    sequence(connection)
    register(connection, "agent", "job", capacity=2)
    got = claim(connection, "agent", worker)
    for delivery in got[:4]:
        ack(connection, "agent", worker, [delivery])
        with pytest.raises(psycopg.Error, match="capacity"):
            fill(connection, 1)
    ack(connection, "agent", worker, got[4:])
    fill(connection, 2)
    register(connection, "agent", "job")
    fill(connection, 100)


def test_agents_answers_are_never_refused(connection: psycopg.Connection) -> None:
    register(connection, "agent", "agent2.completed", capacity=1)
    register(connection, "agent2", "job")
    worker = start_worker(connection, "agent2")
    fill(connection, 2)
    sequence(connection)
    for position, attempt, _ in claim(connection, "agent2", worker):
        connection.execute("select wakelog.ack('agent2', %s, %s, %s, '1')", [position, worker, attempt])
    assert one(connection, "select count(*) from wakelog.events where type = 'agent2.completed'") == 2


def test_the_oldest_that_waits_is_dropped_where_the_agent_says_so(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=3, overflow="drop_oldest")
    worker = start_worker(connection, "agent")
    fill(connection, 1)
    sequence(connection)
    ((running, *_),) = claim(connection, "agent", worker)
    for _ in range(4):
        append(connection, "job")
        sequence(connection)
    got = claim(connection, "agent", worker)
    assert [position for position, _, _ in got] == [4, 5]
    dead = connection.execute(
        "select position, reason, attempts from wakelog.dead_letters order by 1"
    ).fetchall()
    assert dead == [(2, "overflow", 0), (3, "overflow", 0)]
    with pytest.raises(psycopg.Error, match="capacity"):
        append(connection, "job")  # all three are being worked on
    ack(connection, "agent", worker, [(running, 1, "")])
    append(connection, "job")


def test_one_that_is_delayed_may_be_dropped_too(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=1, overflow="drop_oldest")
    worker = start_worker(connection, "agent")
    append_event(connection, "job", deliver_after="1h")
    sequence(connection)
    assert claim(connection, "agent", worker) == []
    append(connection, "job")
    sequence(connection)
    assert [position for position, _, _ in claim(connection, "agent", worker)] == [2]
    connection.execute("select set_config('wakelog.clock_offset', '2 hours', false)")
    assert [position for position, _, _ in claim(connection, "agent", worker)] == [2]  # its lease is over
    assert one(connection, "select reason from wakelog.dead_letters where position = 1") == "overflow"


def test_one_dropped_while_it_is_handed_out_is_worked_on(
    connection: psycopg.Connection, database: str
) -> None:
    register(connection, "agent", "job", capacity=1, overflow="drop_oldest")
    worker = start_worker(connection, "agent")
    append(connection, "job")
    sequence(connection)
    with psycopg.connect(database) as claiming:
        ((first, *_),) = claim(claiming, "agent", worker)
        append(connection, "job")  # sees nobody at work yet
        claiming.commit()
    ack(connection, "agent", worker, [(first, 1, "")])
    assert one(connection, "select count(*) from wakelog.dropped") == 0
    sequence(connection)
    assert len(claim(connection, "agent", worker)) == 1
    assert one(connection, TAKEN) == 1


def test_a_patience_that_is_none_is_refused(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=1)
    connection.execute("set wakelog.backpressure = 'patiently'")
    with pytest.raises(
        psycopg.Error, match='refuse, wait or a number of seconds, found "patiently"'
    ) as refused:
        connection.execute(INSERT)
    assert refused.value.sqlstate == "WL006"
    connection.execute("set wakelog.backpressure = '0.01'")
    connection.execute(INSERT)


@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({"capacity": 100_000}, "room_by_agent"),
        ({"capacity": 50, "overflow": "drop_oldest"}, "slots_one_per_event"),
    ],
    ids=["there is room", "the oldest is dropped"],
)
def test_each_event_of_a_bulk_load_costs_the_same(
    connection: psycopg.Connection, options: dict[str, Any], index: str
) -> None:
    """What a transaction has taken stays in the index until it ends, and is not passed again for each event."""
    events = 2000
    register(connection, "agent", "job", **options)
    connection.execute("select pg_stat_force_next_flush()")
    read = "select idx_tup_read from pg_stat_user_indexes where indexrelname = %s"
    before = one(connection, read, index)
    fill(connection, events)
    connection.execute("select pg_stat_force_next_flush()")
    assert events <= one(connection, read, index) - before <= 20 * events


def test_room_from_before_it_had_an_order_is_taken_too(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=20)
    connection.execute("update wakelog.room set id = null where id % 2 = 0")
    with connection.transaction():
        for _ in range(20):
            append_event(connection, "job")
        with pytest.raises(CapacityReached), connection.transaction():
            append_event(connection, "job")
    assert one(connection, TAKEN) == 20


def test_what_is_rolled_back_is_there_for_the_next(connection: psycopg.Connection) -> None:
    register(connection, "agent", "job", capacity=5)
    with connection.transaction():
        append_event(connection, "job")
        with connection.transaction(force_rollback=True):
            fill(connection, 4)
        fill(connection, 4)
        with pytest.raises(CapacityReached), connection.transaction():
            append_event(connection, "job")
    assert one(connection, TAKEN) == 5


def test_an_older_one_that_was_given_back_is_dropped_first(connection: psycopg.Connection) -> None:
    """Older than what was dropped already, and nobody works on it any more."""
    register(connection, "agent", "job", capacity=2, overflow="drop_oldest")
    worker = start_worker(connection, "agent")
    fill(connection, 2)
    sequence(connection)
    ((position, attempt, _),) = claim(connection, "agent", worker, limit=1)
    fill(connection, 1)  # which drops the second
    connection.execute("select wakelog.release('agent', %s, %s, %s)", [worker, [position], [attempt]])
    slots = "select array_agg(seq order by seq) from wakelog.slots"
    assert one(connection, slots) == [1, 3]
    fill(connection, 1)
    assert one(connection, slots) == [3, 4]


def test_one_that_was_committed_late_is_dropped_in_its_turn(
    connection: psycopg.Connection, database: str
) -> None:
    register(connection, "agent", "job", capacity=3, overflow="drop_oldest")
    with psycopg.connect(database) as late:
        late.execute(INSERT)
        fill(connection, 3)  # the last of them drops the first: what is not committed is nobody's
        assert one(connection, "select array_agg(seq) from wakelog.dropped") == [2]
    fill(connection, 1)
    assert one(connection, "select array_agg(seq order by seq) from wakelog.dropped") == [1, 2]
