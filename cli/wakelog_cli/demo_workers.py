"""The demo's own workers: real `wakelog worker` processes on examples/ci_pipeline.py, in a session of their own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from wakelog_cli.demo_repository import examples_folder
from wakelog_cli.failures import Failure

PROCESSES = 2
GRACE = 3
"""Seconds for handlers to finish when the demo ends."""

_COMMAND = "from wakelog_cli.main import main; main()"


class Workers:
    """A running supervisor and the worker processes under it."""

    def __init__(self, supervisor: "subprocess.Popen[bytes]", log: Path) -> None:
        self._supervisor = supervisor
        self._log = log

    def require_running(self) -> None:
        """Raises `Failure`, with the last they said, when the supervisor has ended."""
        code = self._supervisor.poll()
        if code is not None:
            said = " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:]) or "nothing"
            raise Failure(
                f"expected the workers to run, found that they ended with exit code {code}, saying: {said}",
                next_command="see: wakelog doctor",
            )

    def process_of(self, worker_name: str) -> int | None:
        """The process behind a worker's name (host:pid); None unless it is one of ours."""
        host, _, number = worker_name.rpartition(":")
        if host != socket.gethostname() or not number.isdigit():
            return None
        try:
            ours = os.getsid(int(number)) == self._supervisor.pid
        except ProcessLookupError:
            return None
        return int(number) if ours else None

    def kill(self, process: int) -> None:
        """End one worker process as a power cut would."""
        os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """Let what is at work finish, then see to it that every one of them is gone."""
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(GRACE + 5)
        # What a killed worker had started (a test command, say) has nobody else to end it.
        for process in _session(self._supervisor.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._supervisor.wait()


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    if Path("/proc/self/stat").exists():
        listed = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    else:
        listed = subprocess.run(
            ["ps", "-axo", "pid="], capture_output=True, text=True, check=False
        ).stdout.split()
    members: list[int] = []
    for process in map(int, listed):
        try:
            if os.getsid(process) == leader:
                members.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return members


@contextmanager
def running(url: str, scratch: Path) -> Generator[Workers]:
    """Workers for the pipeline, until the block ends however it ends; what they say goes to a file in `scratch`."""
    log = scratch / "workers.log"
    environment = {
        **os.environ,
        "DATABASE_URL": url,  # not on the command line, where everybody could read the password
        "TMPDIR": str(scratch),  # a worker that is killed cannot tidy up after itself
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    arguments = ["worker", str(examples_folder() / "ci_pipeline.py"), "--processes", str(PROCESSES)]
    with log.open("wb") as said:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments, "--grace", f"{GRACE}s"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            # A Ctrl-C is for the demo, which stops them in order.
            start_new_session=True,
        )
    workers = Workers(supervisor, log)
    try:
        yield workers
    finally:
        workers.stop()
