"""FIFO by key: one at a time and in the order of the log, over processes, failures and crashes; other keys go on."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import ack, append, claim, fail, register, rows_read, sequence, start_worker
from tests.worker.waiting import one, until

APP = """
import random

@app.agent("groups", on="work", start="beginning", ordered_by="payload.group", max_attempts=50, backoff=Fixed(0.01))
async def groups(event, ctx):
    group = event.payload["group"]
    running = folder / f"running-{group}"
    os.close(os.open(running, os.O_CREAT | os.O_EXCL))  # refused where another one of the group is at work
    try:
        await asyncio.sleep(random.random() * 0.004)
        if random.random() < 0.1: raise ValueError("bad luck")
        await ctx.connection.execute("insert into done (grp, position) values (%s, %s)", [group, event.position])
    finally:
        running.unlink(missing_ok=True)
"""


WAITS = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"


def insert(connection: Connection[Any], groups: int, events: int) -> None:
    connection.execute(
        """insert into wakelog.events (type, payload)
           select 'work', jsonb_build_object('group', n %% %s) from generate_series(1, %s) n order by random()""",
        [groups, events],
    )


def test_fifty_groups_over_eight_processes_keep_their_order(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table done (seq bigserial, grp text, position bigint)")
    insert(connection, 50, 400)
    start_workers(APP, processes=8, slots=4)
    insert(connection, 50, 400)
    until(lambda: one(connection, "select count(*) from done") == 800, within=60)
    by_group: defaultdict[str, list[int]] = defaultdict(list)
    for group, position in connection.execute("select grp, position from done order by seq").fetchall():
        by_group[group].append(position)
    assert len(by_group) == 50
    assert all(positions == sorted(positions) for positions in by_group.values())
    failures = connection.execute(
        "select distinct f ->> 'error' from wakelog.history, jsonb_array_elements(failures) f"
    ).fetchall()
    assert failures == [("ValueError: bad luck",)]
    together = """select max(n) from (select (select count(*) from wakelog.history o
        where o.started_at <= h.started_at and o.finished_at > h.started_at) as n from wakelog.history h) t"""
    assert one(connection, together) > 4


def test_order_survives_workers_that_are_killed(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table done (seq bigserial, grp text, position bigint)")
    insert(connection, 10, 200)
    chance = random.Random(5)
    workers = start_workers(
        APP.replace("os.close(os.open(running, os.O_CREAT | os.O_EXCL))", "running.touch()"),
        processes=3,
    )
    for so_many in (20, 60, 100, 140):
        until(lambda so_many=so_many: one(connection, "select count(*) from done") >= so_many, within=60)
        workers.kill(chance.choice(until(lambda: list(workers.pids().values()))))
    until(lambda: one(connection, "select count(*) from done") == 200, within=60)
    out_of_order = """select count(*) from (
        select position < lag(position) over (partition by grp order by seq) as wrong from done) d where wrong"""
    assert one(connection, out_of_order) == 0
    assert one(connection, "select count(distinct position) from done") == 200


def test_a_failing_event_holds_back_its_own_key_only(connection: Connection[Any]) -> None:
    register(connection, "o", "#", ordered_by="payload.k", max_attempts=2)
    for key in ("a", "b", "a", "b"):
        append(connection, "work", payload={"k": key})
    sequence(connection)
    worker = start_worker(connection, "o")
    first_a, first_b = claim(connection, "o", worker)
    fail(connection, "o", worker, first_a)  # again in an hour
    ack(connection, "o", worker, [first_b])
    (second_b,) = claim(connection, "o", worker)
    assert [first_a[0], first_b[0], second_b[0]] == [1, 2, 4]
    ack(connection, "o", worker, [second_b])
    assert claim(connection, "o", worker) == []
    assert connection.execute("select state, position from wakelog.in_flight").fetchall() == [
        ("waiting", 1), ("in_line", 3),
    ]  # fmt: skip
    assert connection.execute("select behind, in_flight, retrying from wakelog.lag").fetchall() == [(1, 0, 1)]
    connection.execute("set wakelog.clock_offset = '2 hours'")
    (again,) = claim(connection, "o", worker)
    fail(connection, "o", worker, again)  # given up: the next one steps forward
    ((position, _, _),) = claim(connection, "o", worker)
    assert position == 3
    # Tried again, it takes its place in line.
    assert one(connection, "select wakelog.retry_dead('o', 1)") is True
    assert claim(connection, "o", worker) == []
    ack(connection, "o", worker, [(3, 1, "")])
    assert [delivery[0] for delivery in claim(connection, "o", worker)] == [1]


@pytest.mark.parametrize(
    ("ordered_by", "same", "other"),
    [
        ("stream", {"stream": "s"}, {"stream": "t"}),
        ("source", {"source": "s"}, {"source": "t"}),
        ("correlation", {"correlation_id": "s"}, {"correlation_id": "t"}),
        ("metadata.a.b", {"metadata": {"a": {"b": 1}}}, {"metadata": {"a": {"b": 2}}}),
        ("payload.a", {"payload": {"a": [1]}}, {"payload": {"a": [2]}}),
    ],
)
def test_what_may_order(
    connection: Connection[Any], ordered_by: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    register(connection, "o", "#", ordered_by=ordered_by)
    append(connection, "work", **same)
    append(connection, "work", **same)
    append(connection, "work", **other)
    append(connection, "work")
    append(connection, "work")
    sequence(connection)
    worker = start_worker(connection, "o")
    # What has no key stands in no line; an event without a correlation begins its own.
    assert [delivery[0] for delivery in claim(connection, "o", worker)] == [1, 3, 4, 5]


def test_finishing_and_adding_to_a_line_never_miss_each_other(
    connection: Connection[Any], database: str
) -> None:
    """Many times over: the last of a line is finished at the moment at which the next is put in it."""
    register(connection, "o", "#", ordered_by="source")
    worker = start_worker(connection, "o")
    with (
        psycopg.connect(database) as finishing,
        psycopg.connect(database, autocommit=True) as claiming,
    ):
        for turn in range(100):
            append(connection, "work", source="s")
            sequence(connection)
            (held,) = claim(connection, "o", worker)
            append(connection, "work", source="s")
            sequence(connection)
            ack(finishing, "o", worker, [held])  # not committed yet
            found: list[Any] = []
            looking = threading.Thread(target=lambda: found.extend(claim(claiming, "o", worker)))  # noqa: B023
            looking.start()
            if turn % 2:  # on the other turns, whoever is quicker
                until(lambda: one(connection, WAITS, claiming.info.backend_pid), every=0.001)
            finishing.commit()
            looking.join()
            found += claim(connection, "o", worker)
            assert [position for position, _, _ in found] == [held[0] + 1]
            ack(connection, "o", worker, found)


def test_an_ordered_handler_must_read_what_is_committed(connection: Connection[Any], database: str) -> None:
    register(connection, "o", "#", ordered_by="source")
    append(connection, "work", source="s")
    sequence(connection)
    worker = start_worker(connection, "o")
    (held,) = claim(connection, "o", worker)
    with psycopg.connect(database) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.Error, match="read committed"):
            ack(other, "o", worker, [held])


def hot_key(
    connection: Connection[Any], start_workers: Callable[..., Any], folder: Path, events: int
) -> None:
    connection.execute(
        """insert into wakelog.events (type, source)
           select 'work', 'hot' from generate_series(1, %s)""",
        [events],
    )
    connection.execute(
        """insert into wakelog.events (type, source) select 'work', 'cold ' || n from generate_series(1, 200) n"""
    )
    start_workers("""
        @app.agent("o", on="work", start="beginning", ordered_by="source")
        async def o(event, ctx):
            await asyncio.sleep(0.005)
    """, processes=2)  # fmt: skip
    cold = """select count(*) from wakelog.history h join wakelog.log_events l using (position)
              where l.source <> 'hot'"""
    until(lambda: one(connection, cold) == 200, within=60)
    assert one(connection, "select behind > 0 from wakelog.lag"), "the hot key was finished too soon to tell"


def test_a_hot_key_slows_no_other(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    hot_key(connection, start_workers, tmp_path, 20_000)


@pytest.mark.soak
def test_a_key_with_200000_events_slows_no_other(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    hot_key(connection, start_workers, tmp_path, 200_000)


def test_what_stands_in_line_is_not_read_by_those_behind_it(connection: Connection[Any]) -> None:
    """The plans are made when nobody stands in line, and kept while ten thousand come; each claim, and each end."""
    keys, events = 20, 10_000
    insert(connection, keys, events)
    sequence(connection)
    register(connection, "groups", "work", ordered_by="payload.group")
    worker = start_worker(connection, "groups")
    connection.execute("vacuum analyze wakelog.deliveries")
    with connection.transaction():  # nothing that is done meanwhile makes a plan anew
        held = claim(connection, "groups", worker, limit=keys)
        before = rows_read(connection, "deliveries")
        assert claim(connection, "groups", worker, limit=keys) == []
        assert rows_read(connection, "deliveries") - before <= events
        for _ in range(10):
            before = rows_read(connection, "deliveries")
            ack(connection, "groups", worker, held)
            stepped = rows_read(connection, "deliveries")
            assert stepped - before <= 20 * keys
            held = claim(connection, "groups", worker, limit=keys)
            assert len(held) == keys
            assert rows_read(connection, "deliveries") - stepped <= 20 * keys
    assert one(connection, "select count(*) from wakelog.deliveries") == events - 10 * keys
