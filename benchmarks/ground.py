"""A server of its own for the benchmarks, and what they all do on it."""

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from wakelog.postgres.binaries import find_binaries
from wakelog.postgres.schema import install
from wakelog.testing import ThrowawayPostgres

SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "700",
}
OURS = "wakelog.measuring.agents"
"""Applications that `wakelog bench` measures with as well."""
THEIRS = str(Path(__file__).with_name("agents.py"))
"""Applications of the benchmarks alone."""


class Ground:
    """A durable throwaway server (fsync on), and databases on it."""

    def __init__(self) -> None:
        self.binaries = find_binaries()
        self.server = ThrowawayPostgres(self.binaries, durable=True, settings=SETTINGS)
        self._made = 0

    def close(self) -> None:
        """End the server at once; what is in it is thrown away."""
        self.server.crash()
        self.server.stop()

    def database(self) -> str:
        """The URL of a new database with Wakelog in it."""
        self._made += 1
        url = self.server.create_database(f"bench_{self._made}")
        with psycopg.connect(url) as connection:
            install(connection)
        return url

    def pgbench(self, url: str, script: str, *, clients: int, seconds: float) -> float:
        """Transactions per second of a pgbench script."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            done = subprocess.run(
                [
                    self.binaries.program("pgbench"), "-n", "-f", file.name, "-c", str(clients), "-j", "2",
                    "-T", str(max(1, int(seconds))), "-M", "prepared", url,
                ],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        line = next(line for line in done.stdout.splitlines() if line.startswith("tps ="))
        return float(line.split()[2])


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection on which each statement is a transaction."""
    return psycopg.connect(url, autocommit=True)


def clean(connection: psycopg.Connection[Any]) -> None:
    """What autovacuum would have done to the log by the time anybody measures."""
    connection.execute("vacuum analyze wakelog.events, wakelog.log")


def rate(count: int, work: Callable[[], Any]) -> float:
    """How many a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
