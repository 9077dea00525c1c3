"""A first database with everything in it that can be under way becomes today's, and all of it goes on."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.schema.first_schema import make_first_schema
from tests.worker.asking import ack, append, claim, fail, register, sequence, start_worker
from tests.worker.sql_worker import turn_clock
from tests.worker.waiting import one

from wakelog.postgres.schema import upgrade

pytestmark = pytest.mark.every_postgres

# Rows as JSON, so that what is compared is what was there before.
ROWS = """
select to_jsonb(t) from wakelog.{table} t order by to_jsonb(t)::text
"""
TABLES = (
    "events", "log", "types", "sequencer", "agents", "agent_types", "starts", "cursors", "deliveries", "dead",
    "history", "worker_sessions", "steps",
)  # fmt: skip


@pytest.fixture
def connection(empty_database: str) -> Iterator[Connection[Any]]:
    make_first_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


def rows(connection: Connection[Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [row for (row,) in connection.execute(ROWS.format(table=table).encode()).fetchall()]
        for table in TABLES
    }


def test_nothing_is_lost_and_everything_goes_on(connection: Connection[Any], empty_database: str) -> None:
    register(connection, "plain", "a", rate={"count": 100, "window": 60})
    register(connection, "lines", "a", ordered_by="payload.key")
    worker = start_worker(connection, "plain", "lines")
    for n in range(20):
        append(connection, "a", payload={"n": n, "key": f"k{n % 2}"}, stream="s", correlation_id="c")
    sequence(connection)
    append(connection, "b")  # without a position yet

    # Of `plain`: one done, one dead, one to be tried again in an hour, one in hand with a finished step, 16 unclaimed.
    done, dead, failed, in_hand = claim(connection, "plain", worker, 4)
    ack(connection, "plain", worker, [done])
    fail(connection, "plain", worker, dead, final=True)
    fail(connection, "plain", worker, failed)
    connection.execute("select wakelog.record_step('plain', %s, %s, 1, 'half', '42')", [in_hand[0], worker])
    # Of `lines`: the first of each key in hand, the others in line behind them.
    first, second = claim(connection, "lines", worker, 10)
    assert one(connection, "select count(*) from wakelog.in_flight where state = 'in_line'") > 0

    before = rows(connection)
    assert upgrade(empty_database).state == "current"
    after = rows(connection)
    for table in TABLES:
        assert before[table], table
        kept = [
            {name: new[name] for name in row} for row, new in zip(before[table], after[table], strict=True)
        ]
        assert kept == before[table]

    ack(connection, "plain", worker, [in_hand])
    assert one(connection, "select result from wakelog.steps") == 42
    ack(connection, "lines", worker, [first, second])
    connection.execute("select wakelog.retry_dead('plain', %s)", [dead[0]])
    turn_clock(connection, 3601)
    everything_in_order(connection, worker)
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert (
        one(
            connection,
            "select count(*) from wakelog.history h join wakelog.agents a on a.id = h.agent_id"
            " where a.name = 'plain' and h.outcome = 'completed'",
        )
        == 20
    )
    assert one(connection, "select count(*) from wakelog.without_position(100)") == 0


def everything_in_order(connection: Connection[Any], worker: int) -> None:
    """Work until nothing is left, and see that `lines` is done in the order of each key."""
    sequence(connection)
    while found := claim(connection, "plain", worker):
        ack(connection, "plain", worker, found)
    last = {"k0": 0, "k1": 1}  # in hand before the upgrade
    while found := claim(connection, "lines", worker):
        for position, _, _ in found:
            n, key = connection.execute(PAYLOAD, [position]).fetchone() or (0, "")
            assert n == last[key] + 2
            last[key] = n
        ack(connection, "lines", worker, found)
    assert last == {"k0": 18, "k1": 19}


PAYLOAD = "select (payload ->> 'n')::int, payload ->> 'key' from wakelog.log_events where position = %s"
