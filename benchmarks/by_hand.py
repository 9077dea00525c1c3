"""The other side of each figure: the same work as somebody would write it who has only PostgreSQL and psycopg."""

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

from benchmarks.ground import connect, rate

READ = 500
"""Rows read at a time."""
WRITERS = 10
"""As many connections as a worker has slots."""


READ_ON: LiteralString = """
    select l.position, l.sequenced_at, e.* from wakelog.log l join wakelog.events e on e.seq = l.seq
    where l.position > %s order by l.position limit %s
"""


def read_all(url: str, after: int) -> float:
    """Rows a second: a loop over the log, with a cursor, that does nothing with what it reads."""
    with connect(url) as connection:
        cursor = after
        started = time.perf_counter()
        while rows := connection.execute(READ_ON, [cursor, READ]).fetchall():
            cursor = rows[-1][0]
        return (cursor - after) / (time.perf_counter() - started)


def copy(url: str, events: Iterable[dict[str, Any]]) -> None:
    """A plain COPY of type and payload, a thousand lines at a time."""
    with (
        psycopg.connect(url) as connection,
        connection.cursor() as cursor,
        cursor.copy("copy plain_events (type, payload) from stdin") as into,
    ):
        lines: list[str] = []
        for event in events:
            payload = json.dumps(event["payload"]).replace("\\", r"\\")
            lines.append(f"{event['type']}\t{payload}\n")
            if len(lines) == 1000:
                into.write("".join(lines))
                lines.clear()
        into.write("".join(lines))


def write(url: str, statement: LiteralString, count: int, *, block: bool) -> float:
    """Transactions of one write a second, over ten connections in one event loop.

    With ``block`` as one writes a transaction that may come to hold more (``async with connection.transaction()``);
    without, in autocommit, the quickest there is.
    """

    async def all_of_them() -> None:
        left = iter(range(count))

        async def writer() -> None:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                for n in left:
                    if block:
                        async with connection.transaction():
                            await connection.execute(statement, [n])
                    else:
                        await connection.execute(statement, [n])

        await asyncio.gather(*(writer() for _ in range(WRITERS)))

    return rate(count, lambda: asyncio.run(all_of_them()))


class Listener:
    """A process that listens, selects the row it was told of, and says how long ago that was sent."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self._url = url
        self._process = process

    def latency(self, count: int, pause: float) -> float:
        """The median in seconds. Insert and notification are one statement, and one transaction."""
        times: list[float] = []
        with connect(self._url) as mouth:
            for _ in range(count):
                time.sleep(pause)
                mouth.execute(
                    "with e as (insert into bare (at) values (%s) returning id) "
                    "select pg_notify('bare', id::text) from e", [time.time()]
                )  # fmt: skip
                assert self._process.stdout is not None
                times.append(float(self._process.stdout.readline()))
        return statistics.median(times)


@contextmanager
def listener(url: str) -> Generator[Listener]:
    """A listener that is ready; ended afterwards."""
    with connect(url) as connection:
        connection.execute(
            "create table bare (id bigint generated always as identity primary key, at float8)"
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.by_hand", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Listener(url, process)
    finally:
        process.terminate()
        process.communicate()


def listen(url: str) -> None:
    with connect(url) as connection, contextlib.suppress(BrokenPipeError):
        connection.execute("listen bare")
        print("ready", flush=True)
        while True:
            for notification in connection.notifies(stop_after=1):
                told = int(notification.payload)
            row = connection.execute("select * from bare where id = %s", [told]).fetchone()
            assert row is not None
            print(time.time() - row[1], flush=True)


if __name__ == "__main__":
    listen(sys.argv[1])
