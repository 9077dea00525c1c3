"""How long it takes from an insert to its handler, where nothing else is going on."""

import statistics
from collections.abc import Iterator

from benchmarks import by_hand
from benchmarks.figure import Figure, Turns, alternate
from benchmarks.ground import OURS, Ground, connect
from wakelog.measuring.latency import PAUSE, insert_to_handler
from wakelog.measuring.workers import workers


def median(url: str, count: int) -> float:
    """Milliseconds, of so many events one after the other."""
    with connect(url) as connection:
        return statistics.median(insert_to_handler(connection, count=count)) * 1000


def idle(ground: Ground, count: int, turns: int) -> Iterator[Figure]:
    """One worker, against a process that listens and selects the row it was told of."""
    url = ground.database()
    with workers(url, f"{OURS}:ping"), by_hand.listener(url) as listening:
        median(url, 10)
        found = alternate(turns, lambda: median(url, count), lambda: listening.latency(count, PAUSE) * 1000)
    yield found.figure("insert to handler, p50, idle", "ms", "bare LISTEN + SELECT", 3, lower_is_better=True)


def many_workers(ground: Ground, processes: int, count: int, turns: int) -> Iterator[Figure]:
    """64 idle worker processes, against one. They are started anew for each turn."""
    url = ground.database()
    found = Turns([], [])
    for _ in range(turns):
        for side, number in ((found.theirs, 1), (found.ours, processes)):
            with workers(url, f"{OURS}:ping", processes=number):
                median(url, 10)
                side.append(median(url, count))
    yield found.figure(
        f"insert to handler, p50, {processes} workers", "ms", "one worker", 2, lower_is_better=True
    )
