"""The parent of worker processes: keeps as many alive as asked for, and stands for doorkeeper.

How this stays correct
----------------------
It imports no user code, so nothing an application does can hold up the doorkeeper it runs. Each child reports
through a pipe of its own: "ready" when it has registered, "alive" about once a second. A child that ends is
started again, with a pause that grows while children keep ending young; one that asks to be replaced (exit code
75) without a pause. A child that has said nothing for longer than a lease is frozen beyond use: its work has
been taken over by then, and it is killed, by its process id.

SIGTERM and SIGINT stop: children claim nothing more, finish or give back within the grace time, and are killed
after it. A second signal shortens the grace time to nothing. When the supervisor itself is killed, the children
see their standard input close, and stop by themselves in the same way.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from wakelog.errors import BadInput, WakelogError
from wakelog.postgres.connect import connect
from wakelog.postgres.listen import probe_listen
from wakelog.postgres.schema import require_current
from wakelog.worker.doorkeeper import Doorkeeper
from wakelog.worker.watchdog import REPLACE

log = logging.getLogger("wakelog.supervisor")

YOUNG = 5.0
"""Seconds; a child that ends sooner makes the next pause longer."""
SILENCE = 10.0
"""Seconds; a child may say nothing for so long, however short its lease is."""


@dataclass(slots=True)
class Child:
    """One worker process."""

    number: int
    process: asyncio.subprocess.Process
    started_at: float
    heard_at: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str | None = None
    hearing: "asyncio.Task[None] | None" = None


class Supervisor:
    """Runs the worker processes of one application, and a candidate for doorkeeper."""

    def __init__(
        self,
        target: str | None,
        url: str,
        *,
        processes: int = 1,
        slots: int = 10,
        lease: float = 30.0,
        grace: float = 30.0,
        log_level: str = "INFO",
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        if processes < 1 or slots < 1 or lease <= 0 or grace < 0:
            raise BadInput(
                f"expected at least 1 process, 1 slot, a lease above 0 s and a grace of 0 s or more; found "
                f"{processes}, {slots}, {lease:g} and {grace:g}"
            )
        self.target = target
        self.url = url
        self.processes = processes if target is not None else 0
        self.slots = slots
        self.lease = lease
        self.grace = grace
        self.log_level = log_level
        self.on_ready = on_ready
        self.listening = True
        self.children: dict[int, Child] = {}
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._refused: asyncio.Future[tuple[int, str]] | None = None
        self._began = asyncio.Event()

    def stop(self) -> None:
        """Stop in order; called again, at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> int:
        """Run until stopped; returns the exit code.

        Raises:
            WakelogError: the database cannot be used, or the application does not load.
        """
        self._check_database()
        doorkeeper = Doorkeeper(self.url, listening=self.listening)
        keeping = asyncio.create_task(doorkeeper.run())
        self._refused = asyncio.get_running_loop().create_future()
        places: list[asyncio.Task[None]] = []
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            for number in range(self.processes):
                place = asyncio.create_task(self._fill(number))
                places.append(place)
                if number == 0:
                    # The first one finds out whether the application loads; the rest follow.
                    began = asyncio.create_task(self._began.wait())
                    await asyncio.wait([began, self._refused, stopped], return_when=asyncio.FIRST_COMPLETED)
                    began.cancel()
            if not self._refused.done():
                self.on_ready()
                # A place or the doorkeeper ends by itself only where there is a mistake in it, which is told.
                await asyncio.wait(
                    [stopped, self._refused, keeping, *places], return_when=asyncio.FIRST_COMPLETED
                )
            self._stopping.set()
            await asyncio.gather(*places)
        finally:
            self._stopping.set()
            doorkeeper.stop()
            for child in self.children.values():
                _send(child, signal.SIGKILL)
            stopped.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(keeping, 5)
        if self._refused.done():
            code, message = self._refused.result()
            refusal = WakelogError(message)
            refusal.exit_code = code  # pyright: ignore[reportAttributeAccessIssue]
            raise refusal
        return 0

    def _check_database(self) -> None:
        with connect(self.url, application_name="wakelog supervisor") as connection:
            found = require_current(connection)
            probe = probe_listen(connection)
        if not found.functions_current:
            log.warning(
                "the database has the functions of another build (Wakelog %s); going on with them. Bring them up to "
                "date: wakelog db upgrade", found.installed_by,
            )  # fmt: skip
        self.listening = probe.works and not probe.pooled
        if not self.listening:
            log.warning("LISTEN does not work here (%s); polling instead", probe.detail)

    async def _fill(self, number: int) -> None:
        """Keep one place filled until told to stop."""
        pause = 0.5
        while not self._stopping.is_set():
            try:
                child = await self._start(number)
            except OSError as error:
                log.warning("no worker process could be started, again in %.1f s: %s", pause, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, 10.0)
                continue
            code = await self._watch(child)
            self.children.pop(number, None)
            if self._stopping.is_set():
                return
            if not self._began.is_set():
                message = (
                    child.refusal or f"the worker process ended with exit code {code} before it was ready"
                )
                if self._refused is not None and not self._refused.done():
                    self._refused.set_result((code if code > 0 else 1, message))
                return
            log.warning("worker process %s ended (%s); starting another", child.process.pid, _ending(code))
            if code == REPLACE:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, 10.0) if time.monotonic() - child.started_at < YOUNG else 0.5

    async def _start(self, number: int) -> Child:
        read, write = os.pipe()
        environment = os.environ | {"WAKELOG_WORKER_DATABASE": self.url, "WAKELOG_LOG": self.log_level}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "wakelog.worker.process", self.target or "", str(self.slots),
                str(self.lease), str(self.grace), "1" if self.listening else "0", str(write),
                stdin=asyncio.subprocess.PIPE, pass_fds=[write], env=environment,
            )  # fmt: skip
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        now = time.monotonic()
        child = Child(number, process, now, now)
        self.children[number] = child
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
        )
        # Kept with the child, because nothing else holds on to it or to the reader; it ends with its pipe.
        child.hearing = asyncio.create_task(self._hear(child, reader))
        return child

    async def _hear(self, child: Child, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            child.heard_at = time.monotonic()
            what, _, rest = line.decode().strip().partition(" ")
            if what == "ready":
                self._began.set()
                child.ready.set()
            elif what == "refused":
                child.refusal = rest.replace("\\n", "\n")

    async def _watch(self, child: Child) -> int:
        """Wait for a child to end, stopping it when told to, killing it when it is frozen."""
        ended = asyncio.create_task(child.process.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while not ended.done() and not self._stopping.is_set():
                await asyncio.wait([ended, stopped], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                silent = time.monotonic() - child.heard_at
                if silent > max(self.lease * 1.5, SILENCE):
                    log.error(
                        "worker process %s has been silent for %.0f s; killed", child.process.pid, silent
                    )
                    _send(child, signal.SIGKILL)
                    child.heard_at = time.monotonic()
            if not ended.done():
                _send(child, signal.SIGTERM)
                hurried = asyncio.create_task(self._hurry.wait())
                await asyncio.wait(
                    [ended, hurried], timeout=self.grace + 15, return_when=asyncio.FIRST_COMPLETED
                )
                hurried.cancel()
            if not ended.done():
                _send(child, signal.SIGKILL)
            return await ended
        finally:
            stopped.cancel()


def _send(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        child.process.send_signal(number)


def _ending(code: int) -> str:
    if code == REPLACE:
        return "asked to be replaced"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def run(
    target: str | None,
    *,
    url: str,
    processes: int = 1,
    slots: int = 10,
    lease: float = 30.0,
    grace: float = 30.0,
    log_level: str = "INFO",
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Run workers until SIGTERM or SIGINT; returns the exit code.

    Args:
        target: ``module:app``, ``file.py`` or ``file.py:app``; None to keep the doors only.
        url: the database.
        processes: how many worker processes.
        slots: how many handlers each runs at once.
        lease: seconds a delivery is held without a sign of life.
        grace: seconds that running handlers have to end when told to stop.
        log_level: of the worker processes, as in logging.
        on_ready: called when the workers are ready.

    Raises:
        WakelogError: the database cannot be used, or the application does not load.
    """

    async def supervise() -> int:
        supervisor = Supervisor(
            target, url, processes=processes, slots=slots, lease=lease, grace=grace, log_level=log_level,
            on_ready=on_ready,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        return await supervisor.run()

    return asyncio.run(supervise())
