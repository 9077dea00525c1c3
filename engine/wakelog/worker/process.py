"""One worker process: it registers, works a shift, and after a lost connection another.

When the connection that holds the worker's lock is lost, others may have taken over within a second. So
everything in hand is dropped, unfinished, and the worker registers anew; what it had can no longer be finished
under the old id.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import psycopg

from wakelog.agents.app import Wakelog
from wakelog.agents.load import load_app
from wakelog.errors import DatabaseUnreachable, UnknownWorker, WakelogError, one_line
from wakelog.projections.runner import Projector
from wakelog.worker.session import Session
from wakelog.worker.shift import Shift
from wakelog.worker.watchdog import REPLACE, end_process

log = logging.getLogger("wakelog.worker")


class Worker:
    """A worker for the agents of one application."""

    def __init__(
        self,
        app: Wakelog,
        url: str,
        *,
        slots: int = 10,
        lease: float = 30.0,
        grace: float = 30.0,
        listening: bool = True,
        ready: Callable[[int], None] = lambda worker: None,
    ) -> None:
        self.app = app
        self.url = url
        self.slots = slots
        self.lease = lease
        self.grace = grace
        self.listening = listening
        self.ready = ready
        self.stopping = asyncio.Event()
        self.replacing = False

    def stop(self) -> None:
        """Claim nothing more, finish what is running within the grace time, and end."""
        self.stopping.set()

    def replace(self, why: str) -> None:
        """Stop, and ask the supervisor for a new process."""
        log.warning("this process wants to be replaced: %s", why)
        self.replacing = True
        self.stopping.set()

    async def run(self) -> int:
        """Work until stopped; returns the exit code."""
        projector = Projector(self.app.projections, self.url, listening=self.listening)
        if projector.definitions:
            await asyncio.to_thread(projector.start)
        try:
            return await self._work()
        finally:
            if projector.definitions:
                await asyncio.to_thread(projector.stop)

    async def _work(self) -> int:
        pause = 0.1
        started_once = False
        while not self.stopping.is_set():
            started = time.monotonic()
            try:
                session = await Session.start(
                    self.url,
                    self.app.agents.values(),
                    self.app.families.values(),
                    lease=self.lease,
                    listening=self.listening,
                )
                self.ready(session.worker)
                started_once = True
                await Shift(self, session).run()
            except (psycopg.OperationalError, DatabaseUnreachable, UnknownWorker) as error:
                if not started_once and isinstance(error, DatabaseUnreachable):
                    raise
                log.warning("the connection was lost, starting anew in %.1f s: %s", pause, one_line(error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), pause)
                pause = 0.1 if time.monotonic() - started > 10 else min(pause * 2, 5.0)
        return REPLACE if self.replacing else 0


def main(arguments: list[str]) -> int:
    """Run a worker process for its supervisor: ``target slots lease grace listening pipe``.

    The database's URL comes through the environment, where other users cannot read it. Ends when the
    supervisor says so, or is gone (its end of standard input closes).
    """
    target, slots, lease, grace, listening, pipe = arguments
    report = os.fdopen(int(pipe), "w", buffering=1)

    def say(line: str) -> None:
        with contextlib.suppress(OSError):
            report.write(line + "\n")

    logging.basicConfig(
        level=os.environ.get("WAKELOG_LOG", "INFO"), stream=sys.stderr,
        format="%(asctime)s %(process)d %(levelname)s %(message)s",
    )  # fmt: skip
    logging.getLogger("asyncio").setLevel(logging.ERROR)

    def live() -> None:
        while True:
            say("alive")
            time.sleep(1.0)

    # From the start, for an application may take long to import, and the database long to come back.
    threading.Thread(target=live, name="wakelog-alive", daemon=True).start()

    async def work() -> int:
        worker = Worker(
            load_app(target), os.environ["WAKELOG_WORKER_DATABASE"], slots=int(slots), lease=float(lease),
            grace=float(grace), listening=listening == "1", ready=lambda worker: say(f"ready {worker}"),
        )  # fmt: skip
        loop = asyncio.get_running_loop()

        def supervisor_gone() -> None:
            if not os.read(0, 100):
                loop.remove_reader(0)
                worker.stop()

        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor decides
        loop.add_reader(0, supervisor_gone)
        return await worker.run()

    try:
        code = asyncio.run(work())
    except WakelogError as error:
        say("refused " + str(error).replace("\n", "\\n"))
        code = error.exit_code
    except BaseException:
        # Not left to the interpreter, which would wait for threads that may never end.
        log.exception("the worker process fails")
        code = 1
    end_process(code)
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
