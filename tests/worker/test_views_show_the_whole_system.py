from typing import Any

import psycopg
from psycopg import Connection
from tests.worker.asking import ack, append, claim, fail, register, rows_read, sequence, start_worker
from tests.worker.waiting import one, until


def test_the_timeline_is_everything_of_one_correlation(connection: Connection[Any]) -> None:
    for agent in ("lint", "tests", "deploy", "docs"):
        register(connection, agent, "push")
    register(connection, "notify", "tests.completed")
    append(connection, "push", correlation_id="flow", payload={"after": "4c01"})
    append(connection, "push", correlation_id="another")
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "lint", "tests", "deploy", "docs", "notify")
    ack(connection, "lint", worker, claim(connection, "lint", worker))
    claim(connection, "tests", worker)
    connection.execute("select wakelog.ack('tests', 1, %s, 1, '{\"passed\": 7}')", [worker])
    fail(connection, "deploy", worker, claim(connection, "deploy", worker)[0], final=True)
    fail(connection, "docs", worker, claim(connection, "docs", worker)[0])
    sequence(connection)
    claim(connection, "notify", worker)
    told = connection.execute(
        "select what, name, outcome, attempts from wakelog.timeline where correlation_id = 'flow'"
    ).fetchall()
    assert sorted(told, key=str) == [
        ("delivery", "deploy", "dead", 1),
        ("delivery", "docs", "waiting", 1),
        ("delivery", "lint", "completed", 1),
        ("delivery", "notify", "running", 1),
        ("delivery", "tests", "completed", 1),
        ("event", "deploy.failed", None, None),
        ("event", "push", None, None),
        ("event", "tests.completed", None, None),
    ]
    times = connection.execute("select at from wakelog.timeline where correlation_id = 'flow'").fetchall()
    assert times == sorted(times)
    push, completed = connection.execute(
        "select event_id, causation_id, detail from wakelog.timeline"
        " where correlation_id = 'flow' and name in ('push', 'tests.completed') and what = 'event'"
    ).fetchall()
    assert (push[2], completed[1:]) == ({"after": "4c01"}, (push[0], {"passed": 7}))


def test_an_event_without_a_correlation_begins_one_under_its_own_id(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "tests")
    claim(connection, "tests", worker)
    connection.execute("select wakelog.ack('tests', 1, %s, 1, '{}')", [worker])
    sequence(connection)
    told = connection.execute(
        "select name from wakelog.timeline where correlation_id = (select id::text from wakelog.events where seq = 1)"
    ).fetchall()
    assert [name for (name,) in told] == ["push", "tests", "tests.completed"]


def test_the_horizon_shows_the_longest_transaction_and_the_longest_append(
    connection: Connection[Any], database: str
) -> None:
    with psycopg.connect(database, application_name="a slow report") as foreign:
        foreign.execute("select pg_current_xact_id()")
        with psycopg.connect(database) as appending:
            appending.execute("select wakelog.append('push')")
            pid, application, state, append_age, age = connection.execute(
                """select oldest_transaction_pid, oldest_transaction_application, oldest_transaction_state,
                          oldest_append_age, oldest_transaction_age from wakelog.horizon"""
            ).fetchall()[0]
            assert (pid, application, state) == (
                foreign.info.backend_pid, "a slow report", "idle in transaction",
            )  # fmt: skip
            assert append_age < age
    until(lambda: one(connection, "select oldest_append_age is null from wakelog.horizon"))
    assert one(connection, "select oldest_transaction_pid from wakelog.horizon") is None
    assert one(connection, "select head from wakelog.horizon") == 0
    sequence(connection)
    assert one(connection, "select head from wakelog.horizon") == 1


def test_the_horizon_shows_who_keeps_the_sequencer_from_its_work(
    connection: Connection[Any], database: str
) -> None:
    shown = "select sequencer_pid, sequencer_age > interval '0' from wakelog.horizon"
    append(connection, "push")
    with psycopg.connect(database) as registering:
        register(registering, "tests", "push")
        assert one(connection, "select wakelog.sequence()") is None
        assert connection.execute(shown).fetchall() == [(registering.info.backend_pid, True)]
        registering.commit()
        assert connection.execute(shown).fetchall() == [(None, None)]


def test_a_worker_is_alive_as_long_as_its_session_and_stays_on_the_list_until_reaped(
    connection: Connection[Any], database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        register(session, "tests", "push")
        append(session, "push")
        sequence(session)
        worker = start_worker(session, "tests")
        claim(session, "tests", worker)
        shown = "select worker, name, agents, alive, in_flight from wakelog.workers"
        assert connection.execute(shown).fetchall() == [(worker, "a test", ["tests"], True, 1)]
    until(lambda: connection.execute(shown).fetchall() == [(worker, "a test", ["tests"], False, 1)])
    assert one(connection, "select wakelog.reap_workers()") == 1
    assert connection.execute(shown).fetchall() == []
    assert one(connection, "select state from wakelog.in_flight") == "lease_over"


def test_a_worker_without_a_session_is_alive_while_it_is_heard_of(connection: Connection[Any]) -> None:
    worker = start_worker(connection, "tests", locked=False)
    assert one(connection, "select alive from wakelog.workers") is True
    connection.execute("set wakelog.clock_offset = '2 minutes'")
    assert one(connection, "select alive from wakelog.workers") is False
    assert one(connection, "select wakelog.reap_workers()") == 0
    connection.execute("select wakelog.heartbeat(%s, '{}', '{}')", [worker])
    assert one(connection, "select alive from wakelog.workers") is True
    connection.execute("set wakelog.clock_offset = '2 hours'")
    assert one(connection, "select wakelog.reap_workers()") == 1


def test_dead_letters_are_looked_up_and_not_searched_in_the_log(connection: Connection[Any]) -> None:
    connection.execute("insert into wakelog.events (type) select 'other' from generate_series(1, 20000)")
    append(connection, *["work"] * 100)
    sequence(connection)
    register(connection, "work", "work")
    worker = start_worker(connection, "work")
    for delivery in claim(connection, "work", worker):
        fail(connection, "work", worker, delivery, final=True)
    connection.execute("vacuum analyze wakelog.events, wakelog.log, wakelog.dead")
    with connection.transaction():
        before = rows_read(connection, "log", "events")
        assert len(connection.execute("select * from wakelog.dead_letters limit 20").fetchall()) == 20
        assert rows_read(connection, "log", "events") - before <= 200


def test_who_works_is_counted_once_for_all(connection: Connection[Any]) -> None:
    append(connection, *["work"] * 100)
    sequence(connection)
    register(connection, "work", "work")
    first, second, idle = (start_worker(connection, "work", locked=False) for _ in range(3))
    assert len(claim(connection, "work", first, limit=30)) == 30
    assert len(claim(connection, "work", second, limit=70)) == 70
    with connection.transaction():
        before = rows_read(connection, "deliveries")
        found = connection.execute("select worker, in_flight from wakelog.workers order by worker").fetchall()
        assert found == [(first, 30), (second, 70), (idle, 0)]
        assert rows_read(connection, "deliveries") - before <= 100


def test_a_timeline_reads_what_is_its_own(connection: psycopg.Connection[Any]) -> None:
    """Thousands of others are in hand and dead."""
    register(connection, "work", "work")
    append(connection, "work", "work", correlation_id="mine")
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, 3000)")
    sequence(connection)
    worker = start_worker(connection, "work")
    first, *_ = claim(connection, "work", worker)
    fail(connection, "work", worker, first, final=True)
    connection.execute(
        """insert into wakelog.dead
           select d.agent_id, d.position, 1, 0, 'max_attempts', null, null, now(), now() from wakelog.deliveries d
           where d.position > 1000"""
    )
    connection.execute("delete from wakelog.deliveries where position > 1000")
    connection.execute("vacuum analyze wakelog.deliveries, wakelog.dead")
    with connection.transaction():
        before = rows_read(connection, "deliveries", "dead")
        found = connection.execute(
            "select what, outcome from wakelog.timeline where correlation_id = 'mine' and name like 'work'"
        ).fetchall()
        assert rows_read(connection, "deliveries", "dead") - before <= 10
    assert sorted(found, key=str) == [
        ("delivery", "dead"), ("delivery", "running"), ("event", None), ("event", None),
    ]  # fmt: skip
