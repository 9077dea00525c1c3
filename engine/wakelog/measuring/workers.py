"""Real worker processes under a supervisor of their own, for as long as something is measured.

`python -m wakelog.measuring.workers TARGET PROCESSES SLOTS` is that supervisor. It ends when its standard input
does, so that nothing is left behind by a measurement that was killed; the database's URL comes through the
environment, where other users of this machine cannot read it.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from wakelog.errors import WakelogError
from wakelog.measuring.waiting import wait_until

_URL = "WAKELOG_MEASURED_DATABASE"
_LAST_MINUTE = 20.0
"""Seconds the workers have to end; they have nothing in hand that matters."""


@contextmanager
def workers(url: str, target: str, *, processes: int = 1, slots: int = 10) -> Generator[int]:
    """Workers that are registered and asleep; the supervisor's process id. Ended afterwards, whatever happens.

    ``target`` is an application as `wakelog worker` takes it. Raises `WakelogError` when they do not start.
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "wakelog.measuring.workers", target, str(processes), str(slots)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ | {_URL: url},
        start_new_session=True,  # a Ctrl-C is for us, who end it when we are done
    )  # fmt: skip
    try:
        wait_until(
            url,
            "select count(*) >= %s from wakelog.workers where alive and asleep",
            [processes],
            patience=60 + processes,
            given_up=lambda: _ended(supervisor),
        )
        yield supervisor.pid
    finally:
        _stop(supervisor)


def _ended(supervisor: "subprocess.Popen[bytes]") -> None:
    if supervisor.poll() is not None:
        raise WakelogError(
            f"expected the measured workers to start, found them ended with {supervisor.returncode}",
            hint="See what they said above.",
        )


def _stop(supervisor: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        supervisor.terminate()
    try:
        supervisor.wait(_LAST_MINUTE)
    except subprocess.TimeoutExpired:
        supervisor.kill()  # its workers see their standard input close, and end
        supervisor.wait()
    finally:
        if supervisor.stdin is not None:
            supervisor.stdin.close()


def main(arguments: list[str]) -> int:
    """Supervise until told to stop, or until whoever measures is gone."""
    from wakelog.worker.supervisor import run

    target, processes, slots = arguments

    def end_with_our_parent() -> None:
        while os.read(0, 100):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_LAST_MINUTE)
        os._exit(1)

    logging.basicConfig(level=os.environ.get("WAKELOG_LOG", "ERROR"))
    threading.Thread(target=end_with_our_parent, daemon=True).start()
    return run(
        target,
        url=os.environ[_URL],
        processes=int(processes),
        slots=int(slots),
        grace=1.0,
        log_level=os.environ.get("WAKELOG_LOG", "ERROR"),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
