"""B3: two producer processes of eight connections each, with rollbacks and slow ones, and a live reader."""

import math
import multiprocessing
import random
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions, insert, sequence

from wakelog.log.append import append, append_many
from wakelog.log.tail import tail

PROCESSES = 2
CONNECTIONS = 8


def produce(url: str, process: int, transactions: int) -> list[str]:
    """Run transactions over eight connections at once; return the ids of the events that were committed."""
    committed: list[str] = []

    def run(n: int) -> None:
        chance = random.Random(process * 100 + n)
        with psycopg.connect(url) as connection:
            for number in range(transactions):
                ids = [
                    str(
                        append(
                            connection, f"thing.{chance.randrange(5)}", {"n": number}, stream=_stream(chance)
                        ).id
                    )
                    for _ in range(chance.choice([1, 1, 1, 2, 4]))
                ]
                with connection.transaction(force_rollback=chance.random() < 0.2) as savepoint:
                    id = str(append(connection, "thing.inside").id)
                if not savepoint.force_rollback:
                    ids.append(id)
                if chance.random() < 0.05:
                    time.sleep(chance.random() * 0.1)
                if chance.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    committed.extend(ids)

    threads = [threading.Thread(target=run, args=[n]) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return committed


def _stream(chance: random.Random) -> str | None:
    # One at a time per transaction, so that no two wait for each other's.
    return None if chance.random() < 0.9 else f"stream-{chance.getrandbits(64)}"


@pytest.mark.parametrize(
    "each", [1_500, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_the_reader_sees_what_was_committed_and_nothing_else(
    database: str, session: Sessions, each: int
) -> None:
    # Of each transaction, 1.8 + 0.8 events on average, 80 % of them committed: `each` events of every process,
    # and some to spare for chance.
    transactions = math.ceil(1.1 * each / (CONNECTIONS * 2.6 * 0.8))
    foreign = session(autocommit=False)
    foreign.execute("select pg_current_xact_id()")
    appender = session(autocommit=False)
    held = insert(appender)

    done = threading.Event()
    sequencers = [threading.Thread(target=_sequence_until, args=[session(), done]) for _ in range(2)]
    for thread in sequencers:
        thread.start()
    seen: list[str] = []
    positions: list[int | None] = []
    context = multiprocessing.get_context("forkserver")
    with (
        tail(database, start="beginning", poll=0.01) as reader,
        ProcessPoolExecutor(PROCESSES, mp_context=context) as processes,
    ):
        producers = [processes.submit(produce, database, n, transactions) for n in range(PROCESSES)]
        last = threading.Thread(target=_finish, args=[producers, appender, session()])
        last.start()
        for event in reader:
            if event.type == "everything.is.committed":
                break
            seen.append(str(event.id))
            positions.append(event.position)
        last.join()
    done.set()
    for thread in sequencers:
        thread.join()

    committed = [id for producer in producers for id in producer.result()] + [str(held)]
    assert all(len(producer.result()) >= each for producer in producers), "fewer than it was made for"
    print(f"\n{len(committed):,} committed, {len(seen):,} seen, {len(set(committed) - set(seen))} missed")
    assert len(seen) == len(set(seen)), "nothing twice"
    assert set(seen) == set(committed)
    assert positions == list(range(1, len(seen) + 1))


def _sequence_until(connection: psycopg.Connection[Any], done: threading.Event) -> None:
    while not done.is_set():
        sequence(connection)


def _finish(producers: list[Any], appender: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> None:
    for producer in producers:
        producer.exception()
    appender.commit()
    append_many(other, [{"type": "everything.is.committed"}])
