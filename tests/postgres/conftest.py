"""What the tests of the private server share."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.memory import roomy_memory

from wakelog.postgres.binaries import Binaries


class Eventually(Protocol):
    def __call__(self, condition: Callable[[], bool], what: str, within: float = ...) -> None: ...


@pytest.fixture
def eventually() -> Eventually:
    """Wait for a state, with a clear word when it does not come."""

    def wait(condition: Callable[[], bool], what: str, within: float = 20) -> None:
        until = time.monotonic() + within
        while not condition():
            assert time.monotonic() < until, f"{what} did not happen within {within:g} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def runs() -> Callable[[int], bool]:
    """Whether a process is there, and not a zombie."""

    def look(pid: int) -> bool:
        told = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return told.stdout.strip()[:1] not in ("", "Z")

    return look


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may pass through, as pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="wakelog-test-", dir=roomy_memory() or "/tmp")).resolve()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def use_in_another_process(binaries: Binaries) -> Iterator[Callable[[Path], "subprocess.Popen[str]"]]:
    """Start the server of a folder in another process: it prints the URL, and stops on a line of input."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from wakelog.postgres.binaries import Binaries\n"
        "from wakelog.postgres.embedded import EmbeddedPostgres\n"
        "binaries = Binaries(Path(sys.argv[2]), sys.argv[3], sys.argv[4])\n"
        "with EmbeddedPostgres(sys.argv[1], binaries=binaries) as server:\n"
        "    print(server.url, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    started: list[subprocess.Popen[str]] = []

    def use(folder: Path) -> "subprocess.Popen[str]":
        arguments = [str(folder), str(binaries.bindir), binaries.version, binaries.origin]
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield use
    for process in started:
        with process:
            if process.poll() is None:
                process.communicate(timeout=30)
