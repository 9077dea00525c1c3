"""A producer as a process of its own: appends until its stdin ends, holds some transactions open, rolls some back."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import psycopg


class Appending:
    """A producer process on a database, whose server may go away and come back; ended with the block."""

    def __init__(self, url: str, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), url, str(seed)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> "Appending":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            ended = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        assert ended == 0, f"the producer ended with {ended}"


def _append(url: str, number: int, chance: random.Random, stopping: threading.Event) -> None:
    n = number * 1_000_000
    while not stopping.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                while not stopping.is_set():
                    n = _transaction(connection, n, chance, stopping)
                    stopping.wait(chance.uniform(0.02, 0.06))
        except psycopg.OperationalError:
            stopping.wait(0.1)  # the server is away


def _transaction(
    connection: psycopg.Connection, n: int, chance: random.Random, stopping: threading.Event
) -> int:
    """A transaction of a few statements that is sometimes left open for a while; where the next one begins."""
    with connection.transaction(force_rollback=chance.random() < 0.1):
        for _ in range(chance.choice([1, 1, 2])):
            upto = n + chance.randint(1, 6)
            connection.execute(
                """insert into wakelog.events (type, payload)
                   select 'counted', jsonb_build_object('key', 'k' || n %% 7, 'n', n)
                   from generate_series(%s::int, %s::int) n""",
                [n, upto - 1],
            )
            n = upto
            if chance.random() < 0.1:
                stopping.wait(chance.uniform(0.1, 0.8))
    return n


def main(url: str, seed: str) -> None:
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_append, args=[url, number, random.Random(f"{seed} {number}"), stopping])
        for number in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
