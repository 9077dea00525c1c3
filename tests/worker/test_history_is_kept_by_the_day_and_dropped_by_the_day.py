from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg import Connection
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one, until


def finish(connection: Connection[Any], agent: str = "tests", count: int = 1) -> None:
    """Append and finish."""
    append(connection, *["push"] * count)
    sequence(connection)
    worker = start_worker(connection, agent)
    ack(connection, agent, worker, claim(connection, agent, worker))


def turn_the_clock(connection: Connection[Any], days: int) -> None:
    """Noon (UTC) of the day so many days from today."""
    connection.execute(
        """select set_config('wakelog.clock_offset', (
               date_trunc('day', clock_timestamp(), 'UTC') + make_interval(days => %s, hours => 12)
               - clock_timestamp())::text, false)""",
        [days],
    )


def places(connection: Connection[Any]) -> list[tuple[str, int]]:
    """How many rows of the history lie in which table, "default" or days from today."""
    return connection.execute(
        """select case when place ~ '_default$' then 'default' else
                  (to_date(right(place, 10), 'YYYY_MM_DD') - (clock_timestamp() at time zone 'UTC')::date)::text end,
                  count(*)
           from (select tableoid::regclass::text as place from wakelog.history) h group by 1 order by 1"""
    ).fetchall()  # pyright: ignore[reportReturnType]


def test_it_is_kept_for_the_agents_that_want_it(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    register(connection, "silent", "push", history=False)
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "tests", "silent")
    for agent in ("tests", "silent"):
        deliveries = claim(connection, agent, worker)
        assert len(deliveries) == 1
        ack(connection, agent, worker, deliveries)
    kept = connection.execute(
        """select a.name, h.position, h.attempts, h.stalled, h.outcome, h.worker, h.started_at <= h.finished_at
           from wakelog.history h join wakelog.agents a on a.id = h.agent_id"""
    ).fetchall()
    assert kept == [("tests", 1, 1, 0, "completed", worker, True)]
    assert one(connection, "select count(*) from wakelog.deliveries") == 0


def test_failed_attempts_are_told_by_the_history_of_what_succeeded(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "tests")
    fail(connection, "tests", worker, claim(connection, "tests", worker)[0])
    connection.execute("set wakelog.clock_offset = '2 hours'")
    ack(connection, "tests", worker, claim(connection, "tests", worker))
    attempts, failures = connection.execute("select attempts, failures from wakelog.history").fetchall()[0]
    assert (attempts, [(f["attempt"], f["error"]) for f in failures]) == (2, [(1, "no luck")])


def test_partitions_are_made_ahead_and_take_in_what_the_default_one_collected(
    connection: Connection[Any],
) -> None:
    register(connection, "tests", "push")
    turn_the_clock(connection, 0)
    finish(connection, count=5)
    turn_the_clock(connection, 2)
    finish(connection, count=3)
    assert places(connection) == [("default", 8)]
    turn_the_clock(connection, 0)
    assert one(connection, "select wakelog.make_history_partitions(3)") == 4
    assert places(connection) == [("0", 5), ("2", 3)]
    assert one(connection, "select wakelog.make_history_partitions(3)") == 0
    finish(connection)
    assert places(connection) == [("0", 6), ("2", 3)]


def test_days_that_passed_without_a_partition_get_theirs(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    for day in (-9, -3):
        turn_the_clock(connection, day)
        finish(connection)
    turn_the_clock(connection, 0)
    connection.execute("select wakelog.make_history_partitions(3)")
    assert places(connection) == [("-3", 1), ("-9", 1)]
    dropped = connection.execute(
        "select wakelog.drop_history(wakelog.clock() - interval '5 days')"
    ).fetchall()
    assert len(dropped) == 1
    assert places(connection) == [("-3", 1)]


def test_partitions_wait_for_nobody_and_nobody_for_them(connection: Connection[Any], database: str) -> None:
    register(connection, "tests", "push")
    append(connection, "push", "push")
    sequence(connection)
    worker = start_worker(connection, "tests")
    first, second = claim(connection, "tests", worker)
    with (
        psycopg.connect(database) as finishing,
        psycopg.connect(database, autocommit=True) as making,
    ):
        ack(finishing, "tests", worker, [first])
        assert one(making, "select wakelog.make_history_partitions(3)") == 0
        finishing.commit()
        assert one(making, "select wakelog.make_history_partitions(3)") == 4
    ack(connection, "tests", worker, [second])
    assert places(connection) == [("0", 2)]


def test_only_whole_days_that_are_over_are_dropped(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    turn_the_clock(connection, -4)
    connection.execute("select wakelog.make_history_partitions(4)")
    for day in range(-4, 1):
        turn_the_clock(connection, day)
        finish(connection)
    dropped = connection.execute(
        """select d - (clock_timestamp() at time zone 'UTC')::date from wakelog.drop_history(
               date_trunc('day', clock_timestamp(), 'UTC') - interval '2 days' + interval '23:59:59') as d"""
    ).fetchall()
    assert dropped == [(-4,), (-3,)]
    assert places(connection) == [("-1", 1), ("-2", 1), ("0", 1)]
    assert connection.execute(
        "select wakelog.drop_history(date_trunc('day', clock_timestamp(), 'UTC') - interval '1 day')"
    ).rowcount == 1  # fmt: skip


def test_dropping_loses_nothing_unread_or_unfinished(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    register(connection, "late", "push")
    turn_the_clock(connection, -3)
    connection.execute("select wakelog.make_history_partitions(0)")
    append(connection, *["push"] * 4)
    sequence(connection)
    worker = start_worker(connection, "tests")
    deliveries = claim(connection, "tests", worker)
    for position, attempt, _ in deliveries[:3]:
        connection.execute(
            "select wakelog.record_step('tests', %s, %s, %s, 'step', '1')", [position, worker, attempt]
        )
    connection.execute("update wakelog.steps set finished_at = wakelog.clock()")
    ack(connection, "tests", worker, deliveries[:1])
    fail(connection, "tests", worker, deliveries[1])
    fail(connection, "tests", worker, deliveries[2], final=True)
    turn_the_clock(connection, 0)
    assert connection.execute("select wakelog.drop_history(wakelog.clock())").rowcount == 1
    assert one(connection, "select count(*) from wakelog.history") == 0
    assert one(connection, "select array_agg(position) from wakelog.dead") == [3]
    # What is to be tried again does not repeat its steps, be it a retry or a dead letter.
    assert one(connection, "select array_agg(position order by position) from wakelog.steps") == [2, 3]
    other = start_worker(connection, "tests", "late")
    assert sorted(claim(connection, "tests", other)) == [(2, 2, "push"), (4, 2, "push")]
    assert [position for position, _, _ in claim(connection, "late", other)] == [1, 2, 3, 4]


def test_work_is_finished_while_old_steps_are_deleted(connection: Connection[Any], database: str) -> None:
    """There may be millions of them. What finishes waits for the tables that are dropped, and these come after."""
    register(connection, "tests", "push")
    turn_the_clock(connection, -3)
    finish(connection)
    turn_the_clock(connection, 0)
    connection.execute("select wakelog.make_history_partitions(3)")
    connection.execute(
        "insert into wakelog.steps (agent_id, position, name, result, finished_at) "
        "select id, 1, 'step', '1', clock_timestamp() - interval '3 days' from wakelog.agents"
    )
    with ThreadPoolExecutor() as aside, psycopg.connect(database) as holder:
        holder.execute("select from wakelog.steps for update")
        dropping = aside.submit(drop_history, database)
        until(
            lambda: one(
                connection,
                "select true from pg_stat_activity where query like '%%drop_history%%' and wait_event_type = 'Lock'",
            )
        )
        connection.execute("set lock_timeout = '2s'")
        finish(connection)
        holder.rollback()
        assert dropping.result(timeout=20) == 1
    assert one(connection, "select count(*) from wakelog.steps") == 0


def drop_history(url: str) -> int:
    """How many days went."""
    with psycopg.connect(url, autocommit=True) as connection:
        return one(
            connection, "select count(*) from wakelog.drop_history(clock_timestamp() - interval '1 day')"
        )
