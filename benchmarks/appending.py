"""What producers pay."""

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import by_hand
from benchmarks.figure import Figure, Turns, alternate
from benchmarks.ground import THEIRS, Ground, connect, rate
from wakelog import append_many
from wakelog.measuring.workers import workers

APPEND = "insert into wakelog.events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"
PLAIN = "insert into plain_events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"
NOTIFYING = "insert into notifying_events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"


def plain_table(url: str, name: str) -> None:
    """The same columns, defaults, checks and indexes, and no trigger."""
    with connect(url) as connection:
        connection.execute(
            sql.SQL("create table {} (like wakelog.events including all)").format(sql.Identifier(name))
        )


def one_row_transactions(ground: Ground, seconds: float, turns: int) -> Iterator[Figure]:
    """16 clients, one event each transaction, while a worker is connected.

    Each of both comes first as often as second, since what was written a moment before is still on its way to the disk.
    """
    url = ground.database()
    plain_table(url, "plain_events")
    plain_table(url, "notifying_events")
    with connect(url) as connection:
        connection.execute(
            "create function textbook() returns trigger language plpgsql as "
            "$$ begin perform pg_notify('textbook', new.id::text); return null; end $$"
        )
        connection.execute(
            "create trigger textbook after insert on notifying_events for each row execute function textbook()"
        )

    def pgbench(script: str) -> float:
        return ground.pgbench(url, script, clients=16, seconds=seconds)

    pgbench(PLAIN)  # the first seconds of a new server are nobody's
    both = Turns([], [])
    with workers(url, f"{THEIRS}:idle"):
        for _ in range(turns):
            both.theirs.append(pgbench(PLAIN))
            both.ours.extend((pgbench(APPEND), pgbench(APPEND)))
            both.theirs.append(pgbench(PLAIN))
        notifying = [pgbench(NOTIFYING) for _ in range(turns)]
    yield both.figure("append, 16 clients, a worker connected", "events/s", "same table, no trigger", 0.9)
    yield Turns(notifying, both.theirs[-turns:]).figure(
        "(a NOTIFY in every insert)", "events/s", "same table, no trigger", None
    )


def bulk(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """Many events in one transaction."""
    url = ground.database()
    plain_table(url, "plain_events")
    events: list[dict[str, Any]] = [
        {"type": "bench.bulk", "payload": {"n": n, "text": "some words of payload"}} for n in range(count)
    ]

    def ours() -> None:
        with psycopg.connect(url) as connection:
            append_many(connection, events)

    found = alternate(
        turns, lambda: rate(count, ours), lambda: rate(count, lambda: by_hand.copy(url, events))
    )
    yield found.figure("bulk append, Python API", "events/s", "plain COPY, same columns and indexes", 0.8)


def sequencing(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """Handing out positions, against inserting the events in one statement."""
    url = ground.database()
    insert = "insert into wakelog.events (type) select 'bench.seq' from generate_series(1, %s)"
    with connect(url) as connection:
        found = alternate(
            turns,
            lambda: rate(count, lambda: connection.execute("select wakelog.sequence()")),
            lambda: rate(count, lambda: connection.execute(insert, [count])),
        )
    yield found.figure("sequencing", "events/s", "one insert .. select of as many", 1)
