"""Supervisors that are started ahead: the next has been imported, and waits for its orders, while a test runs."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Until the orders come it has neither a log nor a folder of its own, and then it has those of the test. When its
# standard input ends without orders, nobody wanted it.
_SUPERVISE = """
import json, os, sys
from wakelog.worker import supervisor

line = sys.stdin.readline()
if not line:
    sys.exit()
orders = json.loads(line)
with open(orders["log"], "wb") as log, open(os.devnull, "rb") as nothing:
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    os.dup2(nothing.fileno(), 0)
if orders["surroundings"]:
    folder, environment = orders["surroundings"]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
supervisor.SILENCE = orders["silence"]
sys.exit(supervisor.run(orders["target"], **orders["options"]))
"""


class Supervisors:
    """Starts supervisors, each a process of its own in a session of its own."""

    def __init__(self) -> None:
        self._next: subprocess.Popen[str] | None = None

    def start(
        self, target: Path, *, log: Path, silence: float, within: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """One for an application, with the options of `wakelog.worker.supervisor.run`; what it says is in `log`.

        It has the environment and the folder that this process has at this moment, but for what `within` changes: a
        command that runs another, as `nice` and `env` do.
        """
        if within:
            process, surroundings = _started(within), None
        else:
            process, self._next = self._next or _started(), None
            surroundings = (str(Path.cwd()), dict(os.environ))  # for it began in those of an earlier test
        orders = {
            "target": str(target),
            "log": str(log),
            "silence": silence,
            "surroundings": surroundings,
            "options": options,
        }
        log.touch()
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.close()
        self._next = self._next or _started()
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._next is not None:
            self._next.communicate()


def _started(within: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*within, sys.executable, "-c", _SUPERVISE]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
