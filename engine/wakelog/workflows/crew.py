"""Processes that rehearse workflows, each one at a time; nobody holds more than is in hand."""

import os
import selectors
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import orjson

from wakelog.errors import BadInput, WakelogError
from wakelog.workflows.difference import Difference
from wakelog.workflows.rehearsal import Rehearsed
from wakelog.workflows.rehearsing import DATABASE


@dataclass(frozen=True, slots=True)
class RehearsedWorkflow:
    """A workflow that was rehearsed; `lost` where the process ended over it."""

    workflow: str
    rehearsed: list[Rehearsed]
    lost: bool = False

    @property
    def differs(self) -> bool:
        """Whether anything would have been otherwise; of one that was lost nobody can say that it would not."""
        return self.lost or any(one.differences for one in self.rehearsed)


@dataclass(slots=True)
class _Process:
    process: "subprocess.Popen[bytes]"
    results: IO[bytes]
    workflow: str | None = None
    ready: bool = False


@dataclass(slots=True)
class Crew:
    """Rehearses with an application that its processes import; this one imports nothing of it.

    `app` is module:app or file.py. Handlers print to this process's stderr.
    """

    app: str
    url: str
    processes: int = 1
    agents: Sequence[str] | None = None
    every_step_live: bool = False
    live_steps: Sequence[str] = ()
    ignore: Sequence[str] = ()
    _busy: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _all: list[_Process] = field(default_factory=list[_Process])

    def rehearse(self, workflows: Iterable[str]) -> Iterator[RehearsedWorkflow]:
        """What came of each, in the order in which they are done; workflows are taken as they are needed.

        Left early, by whatever exception, its processes are ended; nothing of what they do stays in any case.

        Raises:
            WakelogError: the application does not load, or the database cannot be used.
        """
        todo = iter(workflows)
        try:
            for _ in range(self.processes):
                self._start()
            while self._busy.get_map():
                for key, _ in self._busy.select():
                    yield from self._hear(key.data, todo)
        finally:
            for one in list(self._all):
                one.process.kill()
                self._end(one)

    def _hear(self, one: _Process, todo: Iterator[str]) -> Iterator[RehearsedWorkflow]:
        line = one.results.readline()
        told: dict[str, Any] = orjson.loads(line) if line.endswith(b"\n") else {}
        if "refused" in told:
            refusal = BadInput if told["code"] == BadInput.exit_code else WakelogError
            raise refusal(told["refused"], hint=told["hint"])
        if not told:
            yield from self._lost(one)
            return
        if "workflow" in told:
            one.workflow = None
            yield RehearsedWorkflow(told["workflow"], [_rehearsed(each) for each in told["rehearsed"]])
        one.ready = True
        self._hand(one, todo)

    def _hand(self, one: _Process, todo: Iterator[str]) -> None:
        workflow = next(todo, None)
        if workflow is None:
            self._end(one)
            return
        one.workflow = workflow
        assert one.process.stdin is not None
        with suppress(BrokenPipeError):  # it has just ended, which is heard next
            one.process.stdin.write(orjson.dumps(workflow) + b"\n")
            one.process.stdin.flush()

    def _lost(self, one: _Process) -> Iterator[RehearsedWorkflow]:
        self._end(one)
        if not one.ready:
            raise WakelogError(
                f"a process ended with exit code {one.process.returncode} before it could rehearse anything",
                hint=f"See what importing {self.app} does.",
            )
        self._start()
        if one.workflow is not None:
            yield RehearsedWorkflow(one.workflow, [], lost=True)

    def _start(self) -> None:
        read, write = os.pipe()
        told = {
            "app": self.app, "agents": self.agents, "every_step_live": self.every_step_live,
            "live_steps": list(self.live_steps), "ignore": list(self.ignore),
        }  # fmt: skip
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "wakelog.workflows.rehearsing",
                    orjson.dumps(told).decode(),
                    str(write),
                ],
                stdin=subprocess.PIPE,
                stdout=2,
                pass_fds=[write],
                env=os.environ | {DATABASE: self.url},
                # A Ctrl-C is for us.
                start_new_session=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        one = _Process(process, os.fdopen(read, "rb"))
        self._all.append(one)
        self._busy.register(one.results, selectors.EVENT_READ, one)

    def _end(self, one: _Process) -> None:
        if one not in self._all:
            return
        self._all.remove(one)
        self._busy.unregister(one.results)
        one.results.close()
        assert one.process.stdin is not None
        with suppress(BrokenPipeError):
            one.process.stdin.close()
        if one.workflow is not None:
            one.process.kill()
        try:
            one.process.wait(5)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()


def _rehearsed(values: dict[str, Any]) -> Rehearsed:
    found = [Difference(**one) for one in values.pop("differences")]
    return Rehearsed(**values, differences=found)
