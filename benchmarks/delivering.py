"""What delivery takes: throughput, effects, steps, and what a long queue, an old snapshot and many agents cost."""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg

from benchmarks import by_hand
from benchmarks.agents import STEPS, TYPES
from benchmarks.figure import Figure, Turns, alternate
from benchmarks.ground import OURS, THEIRS, Ground, clean, connect, rate
from wakelog.measuring.agents import EFFECT
from wakelog.measuring.deliveries import drain, fill, pause
from wakelog.measuring.workers import workers

PATIENCE = 60.0
"""Seconds after which a run that should take a few is given up."""


def filled(url: str, count: int, *, spread: int = 1, type_: str = "bench.work") -> int:
    """The log with so many more events in it, which no agent has been given yet; the position before them."""
    with connect(url) as connection:
        pause(connection)
        after = fill(connection, type_, count, spread=spread)
        clean(connection)
        return after


def delivered(url: str, after: int, *, upto: int | None = None) -> float:
    with connect(url) as connection:
        return drain(connection, after, upto=upto, patience=PATIENCE)


def against_a_loop(url: str, target: str, count: int, turns: int) -> Turns:
    """One worker process, and a loop that only reads, over the same events each turn."""
    found = Turns([], [])
    with workers(url, target):
        delivered(url, filled(url, 1000))  # the first claim of all plans and compiles
        for _ in range(turns):
            after = filled(url, count)
            found.theirs.append(by_hand.read_all(url, after))
            found.ours.append(delivered(url, after))
    return found


def no_op(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """One worker process and a handler that does nothing."""
    found = against_a_loop(ground.database(), f"{OURS}:no_op", count, turns)
    yield found.figure("no-op deliveries, one process", "events/s", "bare loop over the rows", 0.5)


def batch(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """The same, 500 at a time."""
    found = against_a_loop(ground.database(), f"{OURS}:batch", count, turns)
    yield found.figure("batches of 500, one process", "events/s", "bare loop over the rows", 0.7)


def backlog(ground: Ground, many: int, few: int, turns: int) -> Iterator[Figure]:
    """As many deliveries out of a million that wait as out of ten thousand; and what a worker weighs after all."""
    with ExitStack() as working:
        long_queue, short_queue = ground.database(), ground.database()
        supervisor = working.enter_context(workers(long_queue, f"{OURS}:no_op"))
        working.enter_context(workers(short_queue, f"{OURS}:no_op"))
        filled(long_queue, many)

        def from_many() -> float:
            with connect(long_queue) as connection:
                (done,) = connection.execute("select count(*) from wakelog.history").fetchone() or (0,)
            return delivered(long_queue, done, upto=done + few)

        found = alternate(turns, from_many, lambda: delivered(short_queue, filled(short_queue, few)))
        yield found.figure(f"deliveries, {many:,} events waiting", "events/s", f"{few:,} waiting", 0.9)

        delivered(long_queue, 0, upto=many // 10)
        early = _resident(supervisor)
        with connect(long_queue) as connection:
            drain(connection, 0, patience=10 * PATIENCE)
        yield Figure(
            f"memory of a worker after {many:,} deliveries", "MB", _resident(supervisor), early,
            f"after {many // 10:,}", 1.05, lower_is_better=True,
        )  # fmt: skip


def old_snapshot(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """While another session of the database keeps a snapshot from before it all open."""
    held, free = ground.database(), ground.database()
    with ExitStack() as working:
        for url in (held, free):
            working.enter_context(workers(url, f"{OURS}:no_op"))
            delivered(url, filled(url, 1000))
        holder = working.enter_context(psycopg.connect(held))
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("select count(*) from wakelog.events")
        found = alternate(
            turns,
            lambda: delivered(held, filled(held, count)),
            lambda: delivered(free, filled(free, count)),
        )
    yield found.figure("deliveries, an old snapshot is open", "events/s", "none is", 0.8)


def many_agents(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """500 agents, each of which wants one type of 500, in one worker process."""
    many, one = ground.database(), ground.database()
    with workers(many, f"{THEIRS}:one_type_each"), workers(one, f"{THEIRS}:everything"):
        for url in (many, one):
            delivered(url, filled(url, TYPES, spread=TYPES, type_="bench.type"))
        found = alternate(
            turns,
            lambda: delivered(many, filled(many, count, spread=TYPES, type_="bench.type")),
            lambda: delivered(one, filled(one, count, spread=TYPES, type_="bench.type")),
        )
    yield found.figure(f"deliveries, {TYPES} agents of one type each", "events/s", "one agent of all", 0.33)


def effects(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """One write through ctx.connection in each event's own transaction, ten at once.

    The same writes by hand differ by a half from one moment to the next, so both sides get three times as many turns.
    """
    url = ground.database()
    with connect(url) as connection:
        connection.execute("create table effects (position bigint)")
    found, quickest = Turns([], []), Turns([], [])
    with workers(url, f"{OURS}:effects"):
        delivered(url, filled(url, 200))
        for _ in range(3 * turns):
            found.theirs.append(by_hand.write(url, EFFECT, count, block=True))
            found.ours.append(delivered(url, filled(url, count)))
            quickest.theirs.append(by_hand.write(url, EFFECT, count, block=False))
    quickest.ours.extend(found.ours)
    yield found.figure("effects, a transaction per event", "events/s", "the same writes by hand", 0.5)
    yield quickest.figure("(the same)", "events/s", "by hand in autocommit", None)


def steps(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """ctx.step, each durable before the next."""
    url = ground.database()
    with connect(url) as connection:
        connection.execute("create table commits (n int)")

        def commits() -> None:
            for n in range(count):
                connection.execute("insert into commits values (%s)", [n])

        with workers(url, f"{THEIRS}:steps"):
            delivered(url, filled(url, 5))
            found = alternate(
                turns,
                lambda: STEPS * delivered(url, filled(url, count // STEPS)),
                lambda: rate(count, commits),
            )
    yield found.figure("ctx.step, one worker", "steps/s", "one-row commits, one connection", 0.5)


def _resident(supervisor: int) -> float:
    """Megabytes of the worker process under a supervisor, as the kernel counts them."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return statistics.fmean(pages) * 4096 / 1e6
