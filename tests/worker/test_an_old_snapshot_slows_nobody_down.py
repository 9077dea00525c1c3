"""While a session holds an old snapshot open, nothing dead is cleaned up: what is read must not be walked past it.

Counted in pages looked at, which do not depend on how busy the machine is.
"""

import statistics
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from tests.worker.asking import one

OPTIONS = {
    "every type": '{"types": ["#"]}',
    "one type": '{"types": ["work"]}',
    "a limit": '{"types": ["work"], "concurrency": 5}',
}


@pytest.fixture
def old_snapshot(connection: psycopg.Connection[Any], database: str) -> Iterator[None]:
    # Where the test takes longer than a minute, they would be analysed meanwhile, and plans be others afterwards.
    tables = "select oid::regclass::text from pg_class where relnamespace = 'wakelog'::regnamespace and relkind = 'r'"
    for (table,) in connection.execute(tables).fetchall():
        connection.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
    with psycopg.connect(database) as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select count(*) from wakelog.agents")
        yield


def pages(connection: psycopg.Connection[Any], query: LiteralString, *parameters: Any) -> int:
    """Run it, and count the pages it looked at."""
    plan = psycopg.ClientCursor(connection).execute(
        f"explain (analyze, buffers, format json) {query}", parameters
    )
    found = plan.fetchone()
    assert found is not None
    top = found[0][0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    ("options", "analyzed"),
    [
        ("every type", "never"),
        ("one type", "never"),
        ("one type", "while small"),
        ("one type", "when grown"),
        ("a limit", "while small"),
    ],
)
def test_a_claim_its_acknowledgement_and_the_sequencer_look_at_no_more_pages(
    connection: psycopg.Connection[Any], old_snapshot: None, options: str, analyzed: str
) -> None:
    connection.execute("set synchronous_commit = off")
    connection.execute("select wakelog.register_agent('agent', %s)", [OPTIONS[options]])
    worker = one(connection, "select wakelog.start_worker('a test', '{agent}', false)")
    position = 0

    def cycle(count: int) -> tuple[float, float, float, float]:
        """Work `count` events off, one by one; the median of pages looked at by each step."""
        nonlocal position
        seen: list[tuple[int, int, int, int]] = []
        for _ in range(count):
            position += 1
            # The lease of the last one is over by now, and this one's is as long as the machine may need.
            connection.execute("select set_config('wakelog.clock_offset', %s, false)", [f"{position * 6} s"])
            connection.execute("insert into wakelog.events (type) values ('work')")
            seen.append((
                pages(connection, "select wakelog.sequence()"),
                pages(connection, "select * from wakelog.claim('agent', %s, 1, '5 s')", worker),
                pages(connection, "select wakelog.ack_many('agent', %s, array[%s::bigint], '{1}')", worker, position),
                pages(connection, "select * from wakelog.ready_agents()"),
            ))  # fmt: skip
        sequence, claim, ack, ready = zip(*seen, strict=True)
        return tuple(statistics.median(step) for step in (sequence, claim, ack, ready))  # type: ignore[return-value]

    cycle(20)
    if analyzed == "while small":
        connection.execute("analyze")
    before = cycle(20)
    cycle(400)
    if options != "every type":
        connection.execute("insert into wakelog.events (type) select 'other' from generate_series(1, 5000)")
        connection.execute("select wakelog.sequence()")
        position += 5000
    if analyzed == "when grown":
        connection.execute("analyze")
    after = cycle(20)
    assert one(connection, "select count(*) from wakelog.history") == 460
    for step, first, later in zip(("sequence", "claim", "ack", "ready_agents"), before, after, strict=True):
        assert later <= 1.3 * first + 3, f"{step} looked at {first} pages, and then at {later}"
