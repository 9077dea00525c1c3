"""What was claimed and cannot be read fails with its reason, or counts as nothing; what came with it is worked on."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

from wakelog import append

StartWorkers = Callable[..., WorkerProcesses]

AGENT = """
@app.agent("work", on="work", start="beginning", max_attempts=1, max_stalled=1)
async def work(event, ctx):
    payload = event.payload
    return payload["name"] if isinstance(payload, dict) and "name" in payload else None
"""
DONE = "select count(*) from wakelog.history h where h.outcome = 'completed' and h.failures is null"
ANSWERS = "select payload #>> '{}' from wakelog.events where type = 'work.completed' order by payload::text"


def insert(connection: psycopg.Connection[Any], *payloads: str) -> None:
    """Raw inserts in one transaction, so that they come in one claim."""
    connection.execute(
        "insert into wakelog.events (type, payload) select 'work', p::jsonb from unnest(%s::text[]) p",
        [list(payloads)],
    )


def test_what_looks_private_and_is_not_is_read_as_it_is(
    connection: psycopg.Connection[Any], start_workers: StartWorkers
) -> None:
    nobodys_key = json.dumps({"$private": {"key": 2**63, "box": "AAAA"}})
    deep = '{"$private": ' + "[" * 950 + "]" * 950 + "}"
    insert(connection, '{"name": "before"}', nobodys_key, deep, '{"name": "after"}')
    start_workers(AGENT, lease=2)
    until(lambda: one(connection, DONE) == 4)
    assert [row[0] for row in connection.execute(ANSWERS)] == ["after", "before"]


def test_one_that_cannot_be_decrypted_fails_with_its_reason_and_its_neighbours_are_done(
    connection: psycopg.Connection[Any], start_workers: StartWorkers
) -> None:
    for name in ("Ada", "Bob", "Cleo"):
        append(connection, "work", {"name": name}, private={"name": name})
    connection.execute("""
        create or replace function wakelog.keys_to_read(p_ids bigint[])
        returns table (key_id bigint, key bytea, forgotten boolean) language sql as $$
            select s.id, k.key, s.subject <> 'Bob' or 1 / (s.id - s.id) > 0 from wakelog.subjects s
            join wakelog.subject_keys k on k.subject_id = s.id where s.id = any (p_ids) and s.subject = 'Bob'
            union all
            select s.id, k.key, false from wakelog.subjects s
            join wakelog.subject_keys k on k.subject_id = s.id where s.id = any (p_ids)
        $$""")
    start_workers(AGENT, lease=2)
    until(lambda: one(connection, DONE) == 2)
    until(lambda: one(connection, "select count(*) from wakelog.dead"))
    assert [row[0] for row in connection.execute(ANSWERS)] == ["Ada", "Cleo"]
    dead = connection.execute("select position, reason, stalled, error from wakelog.dead_letters").fetchall()
    assert len(dead) == 1
    assert dead[0][:3] == (2, "max_attempts", 0)
    assert "division by zero" in dead[0][3]


def test_where_the_keys_cannot_be_had_for_a_moment_nothing_is_counted(
    connection: psycopg.Connection[Any], database: str, start_workers: StartWorkers
) -> None:
    append(connection, "work", {"name": "Ada"}, private={"name": "Ada"})
    insert(connection, '{"name": "Bob"}')
    with psycopg.connect(database) as somebody:
        somebody.execute("lock table wakelog.subject_keys in access exclusive mode")
        start_workers(AGENT)
        given_back = (
            "select count(*) = 2 from wakelog.deliveries where worker is null and attempt = 0 and stalled = 0"
        )
        until(lambda: one(connection, given_back))
        somebody.rollback()
    until(lambda: one(connection, DONE) == 2)
    assert [row[0] for row in connection.execute(ANSWERS)] == ["Ada", "Bob"]
    assert one(connection, "select max(attempts) from wakelog.history") == 1
