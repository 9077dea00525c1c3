import random
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.waiting import one


def lag(connection: Connection[Any], agent: str) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("select * from wakelog.lag where agent = %s", [agent]).fetchone()
    assert row is not None
    return row


AGENTS: dict[str, dict[str, Any]] = {
    "all": {"types": ["#"]},
    "some": {"types": ["a.#", "#.b"]},
    "few": {"types": ["c"], "sources": ["x/*"]},
    "big": {"types": ["#"], "payload_path": "$.size > 5"},
    "tenant": {"types": ["a", "c"], "metadata": {"tenant": 1}, "payload_path": "$.size < 5"},
    "none": {"types": ["never"]},
}

# What each of them wants, said in plain SQL.
WANTED = """select l.position from wakelog.log_events l where l.position > %(cursor)s and case %(agent)s
    when 'all' then l.type not in ('all.completed', 'all.failed')
    when 'some' then l.type like 'a%%' or l.type like '%%.b' or l.type = 'b'
    when 'few' then l.type = 'c' and l.source like 'x/%%'
    when 'big' then (l.payload ->> 'size')::int > 5 and l.type not in ('big.completed', 'big.failed')
    when 'tenant' then l.type in ('a', 'c') and l.metadata ->> 'tenant' = '1'
                       and (l.payload ->> 'size')::int < 5
    else false end"""


def test_behind_is_exact_for_any_filter_at_any_cursor(connection: Connection[Any]) -> None:
    chance = random.Random(812)
    for agent, options in AGENTS.items():
        register(connection, agent, *options["types"], **options)
    worker = start_worker(connection, *AGENTS)
    for _ in range(12):
        with connection.transaction():
            for _ in range(chance.randint(0, 60)):
                append(
                    connection, chance.choice(["a", "a.b", "b", "c", "d.b"]),
                    source=chance.choice(["", "x/1", "y"]), payload={"size": chance.randint(0, 9)},
                    metadata={"tenant": chance.randint(1, 3)},
                )  # fmt: skip
        sequence(connection)
        for agent in AGENTS:
            deliveries = claim(connection, agent, worker, limit=chance.randint(1, 30))
            ack(connection, agent, worker, deliveries[::2])
            cursor = one(
                connection,
                "select c.position from wakelog.cursors c join wakelog.agents a on a.id = c.agent_id where a.name = %s",
                agent,
            )
            wanted = connection.execute(WANTED, {"agent": agent, "cursor": cursor}).fetchall()
            unfinished = connection.execute(
                "select position from wakelog.in_flight where agent = %s", [agent]
            ).fetchall()
            oldest = min([position for (position,) in [*wanted, *unfinished]], default=None)
            age = "select clock_timestamp() - sequenced_at from wakelog.log where position = %s"
            before = one(connection, age, oldest)
            found = lag(connection, agent)
            assert (found["cursor"], found["behind"]) == (cursor, len(wanted)), agent
            assert found["in_flight"] == len(unfinished)
            if before is None:
                assert found["oldest_age"] is None
            else:
                assert before <= found["oldest_age"] <= one(connection, age, oldest)


def test_each_delivery_is_counted_where_it_stands(connection: Connection[Any]) -> None:
    register(connection, "tests", "push", max_attempts=3)
    append(connection, *["push"] * 10)
    sequence(connection)
    worker = start_worker(connection, "tests")
    deliveries = claim(connection, "tests", worker, limit=7)
    ack(connection, "tests", worker, deliveries[:1])
    fail(connection, "tests", worker, deliveries[1])
    fail(connection, "tests", worker, deliveries[2])
    fail(connection, "tests", worker, deliveries[3], final=True)
    connection.execute("select wakelog.release('tests', %s, %s, '{1}')", [worker, [deliveries[4][0]]])
    found = lag(connection, "tests")
    counts = {
        name: found[name] for name in ("behind", "in_flight", "retrying", "dead", "stalled", "paused_at")
    }
    assert counts == {
        "behind": 3, "in_flight": 2, "retrying": 3, "dead": 1, "stalled": 0, "paused_at": None,
    }  # fmt: skip
    states = connection.execute(
        "select position, state, attempt, last_error from wakelog.in_flight"
    ).fetchall()
    assert states == [
        (2, "waiting", 1, "no luck"), (3, "waiting", 1, "no luck"), (5, "waiting", 0, None),
        (6, "running", 1, None), (7, "running", 1, None),
    ]  # fmt: skip


def test_the_age_of_the_oldest_is_counted_from_its_place_in_the_log(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    assert lag(connection, "tests")["oldest_age"] is None
    append(connection, "push")
    sequence(connection)
    connection.execute("set wakelog.clock_offset = '1 hour'")
    append(connection, "push")
    sequence(connection)
    worker = start_worker(connection, "tests")
    assert 3600 <= lag(connection, "tests")["oldest_age"].total_seconds() < 3630
    first, second = claim(connection, "tests", worker)
    assert 3600 <= lag(connection, "tests")["oldest_age"].total_seconds() < 3630
    ack(connection, "tests", worker, [first])
    assert lag(connection, "tests")["oldest_age"].total_seconds() < 30
    ack(connection, "tests", worker, [second])
    assert lag(connection, "tests")["oldest_age"] is None


def test_a_lease_that_is_over_and_work_that_stalled_show(connection: Connection[Any]) -> None:
    register(connection, "tests", "push")
    append(connection, "push", correlation_id="flow")
    sequence(connection)
    worker = start_worker(connection, "tests")
    claim(connection, "tests", worker, lease=5)
    connection.execute("set wakelog.clock_offset = '6 seconds'")
    (shown,) = connection.execute(
        "select state, worker_name, correlation_id from wakelog.in_flight"
    ).fetchall()
    assert shown == ("lease_over", "a test", "flow")
    other = start_worker(connection, "tests")
    assert claim(connection, "tests", other) == [(1, 2, "push")]
    assert lag(connection, "tests")["stalled"] == 1
    assert (
        one(connection, "select last_error from wakelog.in_flight")
        == "the worker died or let its lease run out"
    )


def test_a_backlog_of_more_than_ten_thousand_is_said_to_be_ten_thousand(connection: Connection[Any]) -> None:
    register(connection, "all", "#")
    register(connection, "some", "push")
    connection.execute("insert into wakelog.events (type) select 'push' from generate_series(1, 12000)")
    sequence(connection)
    assert (lag(connection, "all")["behind"], lag(connection, "some")["behind"]) == (12000, 10000)
