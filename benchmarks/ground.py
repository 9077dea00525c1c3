"""A server of its own for the benchmarks, and real workers on it."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from wakelog.postgres.binaries import find_binaries
from wakelog.postgres.schema import upgrade
from wakelog.testing import ThrowawayPostgres

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}


class Ground:
    """A durable throwaway server (fsync on), and databases on it."""

    def __init__(self) -> None:
        self.binaries = find_binaries()
        self.server = ThrowawayPostgres(self.binaries, durable=True, settings=SETTINGS)
        self._made = 0

    def close(self) -> None:
        self.server.stop()

    def database(self) -> str:
        """The URL of a new database with Wakelog in it."""
        self._made += 1
        url = self.server.create_database(f"bench_{self._made}")
        upgrade(url)
        return url

    def pgbench(self, url: str, script: str, *, clients: int, seconds: float) -> float:
        """Transactions per second of a pgbench script."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            done = subprocess.run(
                [
                    self.binaries.program("pgbench"), "-n", "-f", file.name, "-c", str(clients), "-j", "2",
                    "-T", str(int(seconds)), "-M", "prepared", url,
                ],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        line = next(line for line in done.stdout.splitlines() if line.startswith("tps ="))
        return float(line.split()[2])


@contextmanager
def workers(url: str, source: str, *, processes: int = 1, slots: int = 10) -> Generator[None]:
    """Real worker processes under a supervisor, running the agents in ``source``."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "bench_app.py"
        app.write_text(textwrap.dedent(source))
        run = (
            "import sys; from wakelog.worker.supervisor import run; "
            "run(sys.argv[1], url=sys.argv[2], processes=int(sys.argv[3]), slots=int(sys.argv[4]), log_level='ERROR')"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", run, str(app), url, str(processes), str(slots)],
            stderr=subprocess.DEVNULL, env=os.environ | {"WAKELOG_LOG": "ERROR"},
        )  # fmt: skip
        try:
            wait_until(url, "select count(*) = %s from wakelog.workers where alive and asleep", [processes])
            yield
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(60)


def wait_until(url: str, query: Any, parameters: list[Any] | None = None, *, patience: float = 300) -> float:
    """Wait until a query says true; returns the seconds it took."""
    started = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        while time.perf_counter() - started < patience:
            row = connection.execute(query, parameters).fetchone()
            if row is not None and row[0]:
                return time.perf_counter() - started
            time.sleep(0.02)
    raise TimeoutError(f"not so within {patience} s: {query}")


def rate(count: int, work: Callable[[], Any]) -> float:
    """How many a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
