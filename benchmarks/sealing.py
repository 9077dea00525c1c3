"""What seals cost producers, and how fast they are made and verified."""

import time
from collections.abc import Iterator

import psycopg

from benchmarks.appending import APPEND
from benchmarks.figure import Figure, Turns, alternate
from benchmarks.ground import THEIRS, Ground, rate
from wakelog.integrity.sealing import seal_now
from wakelog.integrity.verification import verify
from wakelog.measuring.workers import workers

NEEDED = 30_000
"""Events a second that sealing must keep up with."""


def sealing(ground: Ground, seconds: float, count: int, turns: int) -> Iterator[Figure]:
    """Appends with sealing on and off; then the speed of sealing and of verifying."""
    url = ground.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select wakelog.set_sealing(false, '1 second')")
    with psycopg.connect(url, autocommit=True) as connection, workers(url, f"{THEIRS}:idle"):

        def appends(sealed: bool) -> float:
            # Nothing is left over from the turn before, and what is sealed is sealed during the turn.
            for _ in seal_now(connection):
                pass
            connection.execute("select wakelog.set_sealing(%s)", [sealed])
            done = ground.pgbench(url, APPEND, clients=16, seconds=seconds)
            connection.execute("select wakelog.set_sealing(false)")
            return done

        found = alternate(turns, lambda: appends(True), lambda: appends(False))
    yield found.figure("append, 16 clients, sealed meanwhile", "events/s", "the same, sealing off", 0.95)

    url = ground.database()
    with psycopg.connect(url, autocommit=True) as connection:

        def fill() -> float:
            started = time.perf_counter()
            connection.execute(
                "insert into wakelog.events (type, source, stream, payload) select 'bench.seal', 'bench',"
                " 's' || mod(n, 1000), jsonb_build_object('n', n, 'text', 'some words of payload')"
                " from generate_series(1, %s) n",
                [count],
            )
            connection.execute("select wakelog.sequence()")
            return count / (time.perf_counter() - started)

        made = alternate(turns, lambda: rate(count, lambda: list(seal_now(connection))), fill).ours
        yield Turns(made, [NEEDED] * turns).figure("sealing", "events/s", "what is asked of it", 1)

        found = alternate(turns, lambda: rate(count, lambda: verify(connection, last=count)), fill)
        yield found.figure("verifying", "events/s", "appending and sequencing as many", 1)
