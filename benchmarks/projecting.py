"""What projections cost: the same fold by hand, over one and two processes, and with appends going on."""

import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.by_hand import READ_ON
from benchmarks.figure import Figure, alternate
from benchmarks.ground import Ground, rate
from wakelog import Event, Wakelog, append_many, read_stream
from wakelog.projections.aside import LookAside
from wakelog.projections.builds import build
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.folding import AIM_OF_A_REBUILD, MOST_EVENTS, Folding
from wakelog.projections.live import fold as state_of
from wakelog.projections.runner import catch_up

KEYS = 1000
TABLE = "create table totals (key text primary key, events bigint not null, sum bigint not null)"
FOLD = """
    insert into totals
    select payload ->> 'key', count(*), sum((payload ->> 'n')::bigint) from new_events where type = 'bench.counted'
    group by 1
    on conflict (key) do update set events = totals.events + excluded.events, sum = totals.sum + excluded.sum
"""
BY_HAND = """
    insert into by_hand
    select e.payload ->> 'key', count(*), sum((e.payload ->> 'n')::bigint)
    from wakelog.log l join wakelog.events e on e.seq = l.seq where e.type = 'bench.counted' group by 1
"""
COPIED = "create table seen (position bigint not null, key text not null, n int not null)"
IN_PARTS = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    ONE = '''insert into chains values (%s, %s)
             on conflict (key) do update set chain = md5(chains.chain || excluded.chain)'''
    TABLE = "create table chains (key text primary key, chain text not null)"
"""
PER_BATCH = """
    @app.projection("chains", tables=TABLE, partition_by="payload.key", batch=True)
    def chains(events, connection):
        with connection.cursor() as cursor:
            cursor.executemany(ONE, [(e.payload["key"], str(e.payload["n"])) for e in events])
"""
PER_EVENT = """
    @app.projection("chains", tables=TABLE, partition_by="payload.key")
    def chains(event, connection):
        connection.execute(ONE, (event.payload["key"], str(event.payload["n"])))
"""


def fill(url: str, count: int, keys: int = KEYS) -> None:
    """Put events into the log, sequenced, and let the planner know of them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """insert into wakelog.events (type, payload)
               select 'bench.counted', jsonb_build_object('key', 'key-' || n %% %s, 'n', n)
               from generate_series(1, %s) n""",
            [keys, count],
        )
        connection.execute("select wakelog.sequence()")
        connection.execute("vacuum analyze wakelog.events, wakelog.log")


def fold(url: str, definition: ProjectionDefinition) -> None:
    """Fold the log into new tables, from the beginning to its end."""
    with (
        psycopg.connect(url, autocommit=True) as connection,
        LookAside(connection, url, definition.name, definition) as look,
    ):
        aside = look.make(_head(connection))
        with closing(open_projection_connection(url, definition.name)) as own:
            folding = Folding(own, aside.build, definition, aim=AIM_OF_A_REBUILD)
            while not folding.advance().at_end:
                pass
        assert build(connection, aside.build).position == _head(connection)


def in_sql(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """A rebuild of a SQL projection against one statement over the whole log."""
    url = ground.database()
    fill(url, count)
    app = Wakelog("bench")
    app.projection("totals", sql=FOLD, tables=TABLE)
    assert catch_up(url, app.projections) == []

    def by_hand() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "drop table if exists by_hand; create table by_hand (key text primary key, events bigint, sum bigint)"
            )
            connection.execute(BY_HAND)

    found = alternate(
        turns,
        lambda: rate(count, lambda: fold(url, app.projections["totals"])),
        lambda: rate(count, by_hand),
    )
    yield found.figure("rebuild in SQL", "events/s", "one insert .. select .. group by", 0.5)


def in_python(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """A rebuild by a function per batch against a bare loop that reads and writes the same rows."""
    url = ground.database()
    fill(url, count)
    app = Wakelog("bench")

    @app.projection("seen", tables=COPIED, batch=True)
    def seen(events: Any, connection: psycopg.Connection) -> None:
        with connection.cursor() as cursor, cursor.copy("copy seen from stdin") as copy:
            for event in events:
                copy.write_row((event.position, event.payload["key"], event.payload["n"]))

    assert catch_up(url, app.projections) == []

    def by_hand() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "drop table if exists by_hand; create table by_hand (position bigint, key text, n int)"
            )
            columns = connection.execute(READ_ON, [0, 0]).description or []
            at = [column.name for column in columns].index("payload")
            after, head = 0, _head(connection)
            while after < head:
                with connection.transaction():
                    rows = connection.execute(READ_ON, [after, MOST_EVENTS]).fetchall()
                    with connection.cursor() as cursor, cursor.copy("copy by_hand from stdin") as copy:
                        for row in rows:
                            copy.write_row((row[0], row[at]["key"], row[at]["n"]))
                    after = rows[-1][0]

    found = alternate(
        turns,
        lambda: rate(count, lambda: fold(url, app.projections["seen"])),
        lambda: rate(count, by_hand),
    )
    yield found.figure("rebuild in Python, by batch", "events/s", "bare loop, same rows", 0.7)


def in_parts(ground: Ground, what: str, source: str, count: int, turns: int) -> Iterator[Figure]:
    """The command over two processes against the same over one, where the work is in Python."""
    url = ground.database()
    fill(url, count, keys=count // 10)
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "bench_app.py"
        app.write_text(textwrap.dedent(IN_PARTS + source))
        _command(url, app, 1)  # the first one makes what serves

        def over(processes: int) -> float:
            return rate(count, lambda: _command(url, app, processes))

        found = alternate(turns, lambda: over(2), lambda: over(1))
    yield found.figure(f"rebuild over 2 processes, {what}", "events/s", "the same over 1", 1.6)


def beside_appends(ground: Ground, seconds: float, turns: int) -> Iterator[Figure]:
    """Appends by 4 clients while a projection is rebuilt again and again, against none."""
    url = ground.database()
    fill(url, 50_000)
    app = Wakelog("bench")
    app.projection("totals", sql=FOLD, tables=TABLE)
    assert catch_up(url, app.projections) == []
    script = "insert into wakelog.events (type, payload) values ('bench.other', '{\"n\": 1}');\n"

    def append() -> float:
        return ground.pgbench(url, script, clients=4, seconds=seconds)

    def beside() -> float:
        stopping = threading.Event()

        def again() -> None:
            while not stopping.is_set():
                fold(url, app.projections["totals"])

        thread = threading.Thread(target=again)
        thread.start()
        try:
            return append()
        finally:
            stopping.set()
            thread.join()

    found = alternate(turns, beside, append)
    yield found.figure("append while a rebuild runs", "events/s", "no rebuild", 0.5)


def state_of_a_long_stream(ground: Ground, length: int, turns: int) -> Iterator[Figure]:
    """The state in the middle of a stream, from snapshots, against reading the last hundred events of it."""
    url = ground.database()
    app = Wakelog("bench")

    @app.projection("balance", mode="live", initial=dict, snapshots=100)
    def balance(state: dict[str, int], event: Event) -> dict[str, int]:
        return {"sum": state.get("sum", 0) + event.payload["n"], "events": state.get("events", 0) + 1}

    with psycopg.connect(url, autocommit=True) as connection:
        append_many(
            connection, ({"type": "paid", "stream": "account", "payload": {"n": n}} for n in range(length))
        )
        connection.execute("select wakelog.sequence()")
        assert catch_up(url, app.projections) == []
        connection.execute("vacuum analyze")

        def middle(n: int) -> None:
            upto = length // 2 - 37 * n  # not always a snapshot's own position
            assert (
                state_of(connection, app.projections["balance"], stream="account", upto=upto)["events"]
                == upto
            )

        def last(n: int) -> None:
            assert len(list(read_stream(connection, "account", after_version=length - 100))) == 100

        found = alternate(turns, lambda: _milliseconds(middle), lambda: _milliseconds(last))
    yield found.figure(
        f"state in the middle of {length:,} events", "ms", "reading the last 100", 3.0, lower_is_better=True
    )


def _milliseconds(do: Callable[[int], None], times: int = 50) -> float:
    """The median of so many."""
    took: list[float] = []
    for n in range(times):
        began = time.perf_counter()
        do(n)
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _command(url: str, app: Path, processes: int) -> None:
    command = [
        sys.executable, "-c", "from wakelog_cli.main import main; main()", "projection", "rebuild", "chains",
        "--app", str(app), "--processes", str(processes), "--database", url, "--json",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _head(connection: psycopg.Connection) -> int:
    row = connection.execute("select head from wakelog.sequencer").fetchone()
    assert row is not None
    return row[0]


def figures(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """All of them, with a log of so many events for the fastest."""
    yield from in_sql(ground, count, turns)
    yield from in_python(ground, count // 5, turns)
    yield from in_parts(ground, "by event", PER_EVENT, count // 8, turns)
    yield from in_parts(ground, "by batch", PER_BATCH, 2 * count // 5, turns)
    yield from state_of_a_long_stream(ground, 3 * count // 25, turns)
    yield from beside_appends(ground, max(count / 100_000, 1.0), turns)
