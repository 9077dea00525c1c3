"""What delivery takes: throughput, latency, effects and steps."""

import asyncio
import statistics
import time
from collections.abc import Iterator

import psycopg

from benchmarks.figure import Figure, alternate
from benchmarks.ground import Ground, rate, wait_until, workers

NO_OP = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    @app.agent("noop", on="bench.work")
    async def noop(event, ctx): ...
"""
BATCH = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    @app.agent("loader", on="bench.work", batch=500)
    async def loader(events, ctx): ...
"""
EFFECTS = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    @app.agent("writer", on="bench.work")
    async def writer(event, ctx):
        await ctx.connection.execute("insert into effects values (%s)", [event.position])
"""
STEPS = """
    from wakelog import Wakelog
    app = Wakelog("bench")
    async def nothing(): return 1
    @app.agent("stepper", on="bench.work")
    async def stepper(event, ctx):
        for n in range(100):
            await ctx.step(str(n), nothing)
"""
PING = """
    import time
    from wakelog import Wakelog
    app = Wakelog("bench")
    @app.agent("ping", on="bench.ping")
    async def ping(event, ctx):
        return {"seconds": time.time() - event.payload["at"]}
"""
UP_TO_DATE = "select behind + in_flight + retrying = 0 from wakelog.lag where agent = %s"


def fill(url: str, count: int) -> None:
    """Put events into the log, sequenced."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into wakelog.events (type, payload) "
            "select 'bench.work', jsonb_build_object('n', n) from generate_series(1, %s) n", [count]
        )  # fmt: skip
        connection.execute("select wakelog.sequence()")


def drain(url: str, agent: str, count: int) -> float:
    """Deliveries a second: pause the agent, fill the log, let it go."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select wakelog.pause_agent(%s)", [agent])
        fill(url, count)
        wait_until(url, "select behind >= least(%s, 10000) from wakelog.lag where agent = %s", [count, agent])
        connection.execute("select wakelog.resume_agent(%s)", [agent])
    return count / wait_until(url, UP_TO_DATE, [agent])


def read_loop(url: str, count: int) -> float:
    """A bare psycopg loop over the same rows, 500 at a time."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select head from wakelog.sequencer").fetchone()
        assert row is not None
        cursor, head = row[0] - count, row[0]

        def read() -> None:
            nonlocal cursor
            while cursor < head:
                rows = connection.execute(
                    "select * from wakelog.log_events where position > %s order by position limit 500",
                    [cursor],
                ).fetchall()
                cursor = rows[-1][0]

        return rate(count, read)


def no_op(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """One worker process and a handler that does nothing."""
    url = ground.database()
    fill(url, count)
    with workers(url, NO_OP):
        ours, theirs = alternate(turns, lambda: drain(url, "noop", count), lambda: read_loop(url, count))
    yield Figure("no-op deliveries, one process", "events/s", ours, theirs, "bare loop over the rows", 0.5)


def batch(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """The same, 500 at a time."""
    url = ground.database()
    fill(url, count)
    with workers(url, BATCH):
        ours, theirs = alternate(turns, lambda: drain(url, "loader", count), lambda: read_loop(url, count))
    yield Figure(
        "no-op batches of 500, one process", "events/s", ours, theirs, "bare loop over the rows", 0.7
    )


def effects(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """One write through ctx.connection in each event's own transaction, ten at once."""
    url = ground.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table effects (position bigint)")

    async def by_hand() -> None:
        left = iter(range(count))

        async def write() -> None:
            async with await psycopg.AsyncConnection.connect(url) as connection:
                for n in left:
                    async with connection.transaction():
                        await connection.execute("insert into effects values (%s)", [n])

        await asyncio.gather(*(write() for _ in range(10)))

    with workers(url, EFFECTS):
        ours, theirs = alternate(
            turns, lambda: drain(url, "writer", count), lambda: rate(count, lambda: asyncio.run(by_hand()))
        )
    yield Figure("effects, a transaction per event", "events/s", ours, theirs, "the same writes by hand", 0.5)


def steps(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """ctx.step, each durable before the next."""
    url = ground.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table commits (n int)")

        def commits() -> float:
            def work() -> None:
                for n in range(count):
                    connection.execute("insert into commits values (%s)", [n])

            return rate(count, work)

        with workers(url, STEPS):
            ours, theirs = alternate(turns, lambda: 100 * drain(url, "stepper", count // 100), commits)
    yield Figure("ctx.step, one worker", "steps/s", ours, theirs, "one-row commits, one connection", 0.5)


def latency(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """From before the insert to the start of the handler, on an idle system; and with 64 idle workers."""
    url = ground.database()

    def ping() -> float:
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("select head from wakelog.sequencer").fetchone()
            assert row is not None
            for _ in range(count):
                time.sleep(0.02)
                connection.execute(
                    "insert into wakelog.events (type, payload) "
                    "values ('bench.ping', jsonb_build_object('at', %s::float8))", [time.time()]
                )  # fmt: skip
            wait_until(url, UP_TO_DATE, ["ping"])
            rows = connection.execute(
                "select (payload ->> 'seconds')::float8 from wakelog.log_events "
                "where type = 'ping.completed' and position > %s", [row[0]]
            ).fetchall()  # fmt: skip
        return statistics.median(seconds for (seconds,) in rows) * 1000

    def listen() -> float:
        times: list[float] = []
        with (
            psycopg.connect(url, autocommit=True) as ears,
            psycopg.connect(url, autocommit=True) as mouth,
        ):
            mouth.execute(
                "create table if not exists bare (id bigint generated always as identity, at float8)"
            )
            ears.execute("listen bare")
            for _ in range(count):
                time.sleep(0.02)
                at = time.time()
                with mouth.transaction():
                    row = mouth.execute("insert into bare (at) values (%s) returning id", [at]).fetchone()
                    assert row is not None
                    mouth.execute("select pg_notify('bare', %s)", [str(row[0])])
                (notification,) = ears.notifies(timeout=5, stop_after=1)
                ears.execute("select * from bare where id = %s", [int(notification.payload)]).fetchone()
                times.append(time.time() - at)
        return statistics.median(times) * 1000

    with workers(url, PING):
        ours, theirs = alternate(turns, ping, listen)
    yield Figure(
        "insert to handler, p50, idle", "ms", ours, theirs, "bare LISTEN + SELECT", 3, lower_is_better=True
    )
