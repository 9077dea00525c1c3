"""Real worker processes under a real supervisor, for tests that kill them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import psycopg
from tests.worker.supervisors import Supervisors
from tests.worker.waiting import until

_PREAMBLE = """
import asyncio, os, time
from pathlib import Path
from wakelog.agents.app import Wakelog
from wakelog.agents.options import Exponential, Fixed
from wakelog.errors import DoNotRetry, GiveBack, LeaseLost, RetryAfter

app = Wakelog("test")
folder = Path(__file__).parent
"""

_ALIVE = "select worker, split_part(name, ':', 2)::int from wakelog.workers where alive order by worker"


class WorkerProcesses:
    """A supervisor with its workers. Everything that was started is ended by `stop`, frozen processes too."""

    def __init__(
        self,
        supervisors: Supervisors,
        app: Path,
        url: str,
        *,
        processes: int,
        slots: int,
        lease: float,
        grace: float,
        silence: float,
        within: Sequence[str] = (),
    ) -> None:
        self.url = url
        self.app = app
        self.log = app.with_suffix(".log")
        self.killed = 0
        """How many were killed with `kill`."""
        self._seen: set[int] = set()
        # One connection for all looks: many new ones would take the time the processes need to start.
        look = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        before = set(_registered(look))
        self.supervisor = supervisors.start(
            app,
            log=self.log,
            silence=silence,
            within=within,
            url=url,
            processes=processes,
            slots=slots,
            lease=lease,
            grace=grace,
        )
        try:
            until(lambda: self._ended() or len(set(_registered(look)) - before) >= processes)
            if self._ended():
                raise AssertionError(
                    f"the supervisor ended with {self.supervisor.returncode}:\n{self.said()}"
                )
        except BaseException:
            self.stop()
            raise
        finally:
            look.close()

    def pids(self) -> dict[int, int]:
        """The processes of the workers that live at this moment, by worker id."""
        with psycopg.connect(self.url) as connection:
            alive = _registered(connection)
        self._seen.update(alive.values())
        return alive

    def kill(self, pid: int) -> None:
        """SIGKILL one; harmless when it is gone already."""
        self.killed += 1
        self._signal(pid, signal.SIGKILL)

    def freeze(self, pid: int) -> None:
        """SIGSTOP one: its connections stay open, and it does nothing more."""
        self._signal(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """SIGCONT it: it goes on as if no time had passed."""
        self._signal(pid, signal.SIGCONT)

    def said(self) -> str:
        """The log of the supervisor and its workers so far."""
        return self.log.read_text(errors="replace")

    def stop(self, *, within: float = 15.0) -> int:
        """End them in order (SIGTERM), or by force when that takes too long; the supervisor's exit code."""
        for pid in self._seen:
            self._signal(pid, signal.SIGCONT)
        self.supervisor.terminate()
        try:
            return self.supervisor.wait(within)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            for pid in self._seen:
                self._signal(pid, signal.SIGKILL)
            return self.supervisor.wait()

    def _ended(self) -> bool:
        return self.supervisor.poll() is not None

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _registered(connection: psycopg.Connection) -> dict[int, int]:
    """The processes of the workers that live at this moment, by worker id."""
    return dict(connection.execute(_ALIVE).fetchall())


def write_app(path: Path, source: str) -> Path:
    """An application in a file of its own; `source` need only declare agents on `app`."""
    path.write_text(f"{_PREAMBLE}\n\n{dedent(source)}")
    return path
