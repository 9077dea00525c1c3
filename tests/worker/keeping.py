"""A doorkeeper of its own, with no workers: a supervisor process whose slow looks can be made slower."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.worker.waiting import one, until

_KEEP = """
import asyncio, random, sys
from wakelog.worker import doorkeeper
from wakelog.worker.supervisor import run
if float(sys.argv[2]):
    doorkeeper.SLOW_LOOK = float(sys.argv[2])
    ask = doorkeeper.Office._ask
    async def dawdle(self, query):
        if "try_advisory_lock" in str(query):
            await asyncio.sleep(random.random() * 0.005)
        return await ask(self, query)
    doorkeeper.Office._ask = dawdle
sys.exit(run(None, url=sys.argv[1]))
"""

DOORKEEPER = "select doorkeeper_pid from wakelog.horizon"
ASLEEP = """
select exists (select from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock'
               and database = (select oid from pg_database where datname = current_database())
               and classid::int = wakelog.lock_space('beacon'))
"""
WORKERS_ASLEEP = "select bool_and(asleep) from wakelog.workers where alive"


@contextmanager
def keeping(url: str, folder: Path, *, slow_look: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for doorkeeper; entered when somebody, it or another, is in office.

    ``slow_look`` is how many seconds lie between two of its slow looks, and that it dawdles before it takes the
    beacon; 0 for what it does by itself.
    """
    with (folder / "doorkeeper.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _KEEP, url, str(slow_look)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: process.poll() is not None or one(connection, DOORKEEPER))
        assert process.poll() is None, (folder / "doorkeeper.log").read_text()
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
