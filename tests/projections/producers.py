"""Several that append at once, some of it rolled back, for as long as a test lasts."""

import random
import threading
import time

import psycopg


class Producers:
    """Several that append all the time, until the block ends."""

    def __init__(self, url: str, how_many: int = 3) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.appended = 0
        self._threads = [threading.Thread(target=self._append, args=[n]) for n in range(how_many)]

    def _append(self, number: int) -> None:
        n = number
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stopping.is_set():
                with connection.transaction(force_rollback=random.random() < 0.1) as transaction:
                    connection.execute(
                        """insert into wakelog.events (type, payload)
                           select 'counted', jsonb_build_object('key', 'k' || n %% 5, 'n', n)
                           from generate_series(%s::int, %s::int) n""",
                        [n, n + 3],
                    )
                    if transaction.force_rollback:
                        continue
                self.appended += 4
                n += 10
                time.sleep(0.002)

    def __enter__(self) -> "Producers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
