"""What producers pay."""

import json
import time
from collections.abc import Iterator

import psycopg
from psycopg import sql

from benchmarks.figure import Figure, alternate
from benchmarks.ground import Ground, rate, workers
from wakelog import append_many

APPEND = "insert into wakelog.events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"
PLAIN = "insert into plain_events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"
NOTIFYING = "insert into notifying_events (type, payload) values ('bench.tick', '{\"n\": 1}');\n"

IDLE_AGENT = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    @app.agent("idle", on="bench.never")
    async def idle(event, ctx): ...
"""


def plain_table(url: str, name: str) -> None:
    """The same columns, defaults, checks and indexes, and no trigger."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create table {} (like wakelog.events including all)").format(sql.Identifier(name))
        )


def one_row_transactions(ground: Ground, seconds: float, turns: int) -> Iterator[Figure]:
    """16 clients, one event each transaction, while a worker is connected."""
    url = ground.database()
    plain_table(url, "plain_events")
    plain_table(url, "notifying_events")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create function textbook() returns trigger language plpgsql as "
            "$$ begin perform pg_notify('textbook', new.id::text); return null; end $$"
        )
        connection.execute(
            "create trigger textbook after insert on notifying_events for each row execute function textbook()"
        )

    def plain() -> float:
        return ground.pgbench(url, PLAIN, clients=16, seconds=seconds)

    with workers(url, IDLE_AGENT):
        ours, theirs = alternate(
            turns, lambda: ground.pgbench(url, APPEND, clients=16, seconds=seconds), plain
        )
    yield Figure(
        "append, 16 clients, a worker connected", "events/s", ours, theirs, "same table, no trigger", 0.9
    )
    notifying, again = alternate(
        turns, lambda: ground.pgbench(url, NOTIFYING, clients=16, seconds=seconds), plain
    )
    yield Figure(
        "(for comparison) NOTIFY in every insert", "events/s", notifying, again, "same table, no trigger", 0
    )


def bulk(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """Many events in one transaction."""
    url = ground.database()
    plain_table(url, "plain_events")
    events = [
        {"type": "bench.bulk", "payload": {"n": n, "text": "some words of payload"}} for n in range(count)
    ]

    def ours() -> None:
        with psycopg.connect(url) as connection:
            append_many(connection, events)

    def theirs() -> None:
        with (
            psycopg.connect(url) as connection,
            connection.cursor() as cursor,
            cursor.copy("copy plain_events (type, payload) from stdin") as copy,
        ):
            for event in events:
                copy.write_row((event["type"], json.dumps(event["payload"])))

    mine, others = alternate(turns, lambda: rate(count, ours), lambda: rate(count, theirs))
    yield Figure("bulk append, Python API", "events/s", mine, others, "plain COPY, same table", 0.8)


def sequencing(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """Handing out positions, against inserting the events in one statement."""
    url = ground.database()
    with psycopg.connect(url, autocommit=True) as connection:

        def theirs() -> float:
            started = time.perf_counter()
            connection.execute(
                "insert into wakelog.events (type) select 'bench.seq' from generate_series(1, %s)", [count]
            )
            return count / (time.perf_counter() - started)

        def ours() -> float:
            return rate(count, lambda: connection.execute("select wakelog.sequence()"))

        mine, others = alternate(turns, ours, theirs)
    yield Figure("sequencing", "events/s", mine, others, "one insert .. select of as many", 1)
