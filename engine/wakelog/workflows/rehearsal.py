"""Recorded events through other code, with nothing written: what would have been different?"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from wakelog.agents.app import Wakelog
from wakelog.agents.batch import BatchContext
from wakelog.agents.definition import AgentDefinition
from wakelog.errors import BadInput, GiveBack, WakelogError
from wakelog.postgres.connect import connect
from wakelog.worker.answers import answers, context_for
from wakelog.worker.delivery import Delivery, Work
from wakelog.worker.execution import sentence
from wakelog.worker.threads import TimeLimitExceeded, raise_in_thread
from wakelog.workflows.bench import LiveSteps, NotRecorded, Recording, RehearsalBench, RehearsalConnections
from wakelog.workflows.difference import Difference, Outcome, differences
from wakelog.workflows.recorded import Recorded, recorded_work

LOOP_GRACE = 0.5
"""Seconds the event loop has to turn."""
PATIENCE = 5.0
"""Seconds that a handler which holds the event loop has to end after its time limit; then its process is ended."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One recorded delivery, done again by other code: `differences` is empty where it came to the same."""

    workflow: str
    agent: str
    position: int
    type: str
    attempt: int
    differences: list[Difference]
    seconds: float


def rehearse(
    url: str,
    app: Wakelog,
    workflows: Iterable[str],
    *,
    agents: Sequence[str] | None = None,
    live_steps: bool | Iterable[str] = False,
    ignore: Sequence[str] = (),
) -> Iterator[Rehearsed]:
    """Do what agents did in these workflows again, with the handlers of `app`, in this process; nothing is written.

    Each delivery that was finished, or given up after its attempts, is compared with what was recorded: what was
    emitted and returned, and whether it failed. Steps return what was recorded; one that has no recording is a
    difference, unless it is live.

    Args:
        url: the database.
        app: the application with the code to rehearse.
        workflows: correlations; taken one at a time.
        agents: of these agents alone; None for all of the application.
        live_steps: True to do all steps for real, or the names of those to do.
        ignore: paths in payloads that are not compared; ``*`` matches anything, as in ``"timing.*"``.

    Raises:
        BadInput: the application declares no agent of that name.
        RuntimeError: called where an event loop runs.
    """
    live = LiveSteps(live_steps) if isinstance(live_steps, bool) else LiveSteps(names=frozenset(live_steps))
    with (
        asyncio.Runner() as runner,
        Rehearsal(url, app, agents=agents, live=live, ignore=ignore) as rehearsal,
    ):
        for workflow in workflows:
            yield from runner.run(rehearsal.workflow(workflow))
        runner.run(rehearsal.connections.close())


class Rehearsal:
    """Does the work of workflows again, one after the other. A context manager; one at a time in a process."""

    def __init__(
        self,
        url: str,
        app: Wakelog,
        *,
        agents: Sequence[str] | None,
        live: LiveSteps,
        ignore: Sequence[str],
        die: Callable[[], None] | None = None,
    ) -> None:
        strange = [name for name in agents or () if name not in app.agents]
        if strange:
            raise BadInput(
                f'expected agents of the application "{app.name}" ({", ".join(app.agents)}), found "{strange[0]}"'
            )
        self._agents = {name: app.agents[name] for name in (app.agents if agents is None else agents)}
        self._live = live
        self._ignore = ignore
        self._die = die
        """Ends this process, where a handler cannot be ended otherwise."""
        self._reading = connect(url, application_name="wakelog rehearsal")
        self.connections = RehearsalConnections(url, pooled=False)

    async def workflow(self, correlation_id: str) -> list[Rehearsed]:
        """Everything these agents did in a workflow."""
        found: list[Rehearsed] = []
        for recorded in recorded_work(self._reading, correlation_id, list(self._agents)):
            began = time.monotonic()
            outcome = await self._run(self._agents[recorded.agent], recorded)
            found.append(
                Rehearsed(
                    correlation_id, recorded.agent, recorded.event.position or 0, recorded.event.type,
                    recorded.attempts, differences(recorded, outcome, self._ignore), time.monotonic() - began,
                )
            )  # fmt: skip
        return found

    def close(self) -> None:
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _run(self, agent: AgentDefinition, recorded: Recorded) -> Outcome:
        recording = Recording(recorded.steps, self._live)
        bench = RehearsalBench(self.connections, agent.is_async, recording)
        try:
            outcome = await self._call(agent, recorded, bench)
        except NotRecorded:
            outcome = Outcome([])
        except GiveBack:
            outcome = Outcome([], "it gave the event back")
        except TimeLimitExceeded:
            outcome = Outcome([], _too_long(agent))
        except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is this rehearsal that is to end
            outcome = Outcome([], sentence(error))
        finally:
            await bench.close()
        outcome.unrecorded = tuple(dict.fromkeys(recording.missing))
        return outcome

    async def _call(self, agent: AgentDefinition, recorded: Recorded, bench: RehearsalBench) -> Outcome:
        event = recorded.event
        delivery = Delivery(agent, event, event.position or 0, recorded.attempts, 0, time.monotonic())
        work = Work(agent, [delivery])
        context = context_for(work, bench)
        given = [event] if isinstance(context, BatchContext) else event
        limit = asyncio.timeout(agent.timeout)
        try:
            if agent.is_async:
                with _Limit(agent.timeout, self._die):
                    async with limit:
                        result = await agent.handler(given, context)
            else:
                async with limit:
                    result = await bench.run_in_thread(agent.handler, given, context)
        except TimeoutError:
            if limit.expired():
                raise TimeLimitExceeded from None
            raise
        done, failed = answers(work, context, result)
        if failed:
            error = failed[0][1]
            return Outcome([], error if isinstance(error, str) else sentence(error))
        return Outcome(done[0][1])


class _Limit(threading.Thread):
    """Ends an async handler that holds the event loop when its time has passed. One that awaits is cancelled by it."""

    def __init__(self, seconds: float, die: Callable[[], None] | None) -> None:
        super().__init__(name="wakelog-rehearsal-limit", daemon=True)
        self._seconds = seconds
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()
        self._ending = threading.Lock()

    def run(self) -> None:
        pause, late = self._seconds + LOOP_GRACE, 0.0
        while not self._over.wait(pause):
            turned = threading.Event()
            self._loop.call_soon_threadsafe(turned.set)
            if not turned.wait(LOOP_GRACE):
                with self._ending:
                    if not self._over.is_set():
                        raise_in_thread(self._loop_thread, TimeLimitExceeded)
                late += LOOP_GRACE
            if late > PATIENCE and self._die is not None:
                self._die()
            pause = LOOP_GRACE

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        with self._ending:
            self._over.set()
            raise_in_thread(self._loop_thread, None)  # one raised too late would end something else


def _too_long(agent: AgentDefinition) -> str:
    return str(WakelogError(f"the time limit of {agent.timeout:g} s passed"))
