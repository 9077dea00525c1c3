"""Running one handler inside its limits, and deciding how the work it was given ends.

How this stays correct
----------------------
      claimed --> running --> done      acknowledged with the next batch, or, where the handler wrote through
                     |                  ctx.connection, inside that transaction: effects, emitted events and
                     |                  acknowledgement are one commit
                     |--> failed        its transaction is rolled back first, then the failure is recorded in
                     |                  a transaction of its own: another attempt, or a dead letter
                     |--> given back    the attempt does not count
                     |--> stalled       its connection was lost: counted as the death of a worker is
                     `--> lost          another worker has it: nothing is written

A batch goes the same way as a whole. Where its handler wrote through ctx.connection, it is committed only if all
of it is still held; what is still held of one that was lost in part is given back. Events that the handler let fail,
and those that cannot be read, leave it: `Work.deliveries` are those whose end is still to be recorded.

Time limits. They hold for everything that is the application's: models and upcasters read the events, and check what
is answered, where the handler runs and in its time; a backoff has as much time again. An async handler is cancelled.
One that never lets go of the event loop, and a sync one in its thread, get an exception raised inside them by the
watchdog. A thread that does not end even so (it sleeps in C) is left behind and the process asks to be replaced,
since no thread can be killed; what it writes is never committed.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg

from wakelog.agents.batch import BatchContext
from wakelog.agents.context import Context
from wakelog.agents.definition import AgentDefinition
from wakelog.durations import Duration, seconds
from wakelog.errors import (
    BadInput,
    DoNotRetry,
    GiveBack,
    LeaseLost,
    RetryAfter,
    UnknownAgent,
    WakelogError,
    one_line,
)
from wakelog.worker.answers import FailedAlone, answers, context_for
from wakelog.worker.connections import HandlerConnections
from wakelog.worker.delivery import Delivery, Work
from wakelog.worker.queue import WorkQueue
from wakelog.worker.reading import SomeUnreadable, read
from wakelog.worker.settling import Done, Failure, Settling
from wakelog.worker.threads import HandlerThreads, TimeLimitExceeded
from wakelog.worker.time_limit import within
from wakelog.worker.workbench import WorkBench, Workshop

log = logging.getLogger("wakelog.worker")

T = TypeVar("T")

LONGEST_DELAY = 366 * 86400.0
"""Seconds; more is not meant."""
RECONNECT = 0.5
"""Seconds after which an event may be tried again whose handler was without a connection."""
RECORDED_TOGETHER = 500
"""Failures of one batch that are recorded in one transaction."""
MOST_LINES = 5
"""So many of them are told in the log, a line each."""


class Execution:
    """Runs deliveries. One per worker session."""

    def __init__(
        self, worker: int, connections: HandlerConnections, settling: Settling, queue: WorkQueue, threads: int,
        replace_me: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.settling = settling
        self.threads = HandlerThreads(threads, replace_me)
        self._shop = Workshop(worker, connections, settling, self.threads, asyncio.get_running_loop(), queue)

    async def run(self, work: Work, task: asyncio.Task[Any]) -> None:
        """Run the handler once and bring every delivery to its end; ``task`` is the one this is awaited in."""
        bench = WorkBench(self._shop, work)
        work.task = task
        try:
            try:
                while work.deliveries:
                    try:
                        done, failed = await self._call(work, bench)
                    except SomeUnreadable as some:
                        await self._set_aside(work, some)
                    else:
                        await self._finish(work, done, failed, bench)
                        break
            except TimeoutError as error:
                # The handler may have run into a time-out of its own.
                if work.late:
                    await self._end_late(work, bench)
                else:
                    await self._fail(work, bench, error)
            except asyncio.CancelledError as error:
                if work.pushed:
                    while task.cancelling():
                        task.uncancel()
                    await self._end_late(work, bench)
                elif task.cancelling():
                    raise  # the worker stops
                else:
                    await self._fail(work, bench, error)  # something the handler awaited was cancelled
            except TimeLimitExceeded:
                await self._fail(work, bench, _time_limit(work))
            except GiveBack as given:
                await bench.close()
                await self.settling.release(work.deliveries, _delay(given.delay))
            except LeaseLost:
                raise
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                await self._fail(work, bench, error)
        except LeaseLost as lost:
            log.warning("%s", lost)
            await bench.close()
            if work.agent.batch is None:
                self.settling.forget(work.deliveries)
            else:
                await self._let_go(work, 1.0)  # one was lost, the others need not wait for their leases
        except UnknownAgent as removed:
            log.warning("%s", removed)
            self.settling.forget(work.deliveries)
        except Exception:
            # Nothing a handler does may end the worker, and with it the work of others.
            log.exception("%s at %s: its end could not be recorded", work.agent.name, work.where)
            await self._let_go(work, 5.0)
        finally:
            await bench.close()

    async def _call(self, work: Work, bench: WorkBench) -> tuple[list[Done], list[FailedAlone]]:
        """Call the handler; what it answers.

        Raises SomeUnreadable, and then it was not called.
        """
        agent = work.agent
        context = context_for(work, bench)
        given = context.event if isinstance(context, Context) else list(context.events)
        began = work.begin()
        try:
            if not agent.is_async:
                return await within(agent.timeout, bench.run_in_thread(_called, work, context, given), began)
            read(work.deliveries)
            return answers(work, context, await within(agent.timeout, agent.handler(given, context), began))
        finally:
            work.end()

    async def _finish(
        self, work: Work, done: list[Done], failed: list[FailedAlone], bench: WorkBench
    ) -> None:
        if not bench.wrote():
            self.settling.done(done)
        elif done:
            await bench.commit(done)
            self.settling.forget([delivery for delivery, _ in done])
        work.deliveries = [delivery for delivery, _, _ in failed]
        if failed:
            await bench.close()
            await self._record(work.agent, self._failures(work, failed))

    async def _set_aside(self, work: Work, some: SomeUnreadable) -> None:
        """Fail those that cannot be read; the others go on without them."""
        await self._record(
            work.agent, self._failures(work, [(delivery, why, None) for delivery, why in some.why])
        )
        unreadable = {delivery for delivery, _ in some.why}
        work.deliveries = [delivery for delivery in work.deliveries if delivery not in unreadable]

    async def _let_go(self, work: Work, delay: float) -> None:
        try:
            await self.settling.release(work.deliveries, delay)
        except (psycopg.Error, WakelogError):
            self.settling.forget(work.deliveries)

    async def _end_late(self, work: Work, bench: WorkBench) -> None:
        """The time limit passed; not this handler's fault where another one held the event loop."""
        if work.blocked:
            await bench.close()
            await self.settling.release(work.deliveries)
        else:
            await self._fail(work, bench, _time_limit(work))

    async def _fail(self, work: Work, bench: WorkBench, error: BaseException) -> None:
        unreachable, lost = bench.unreachable(error), bench.connection_lost(error)
        await bench.close()
        if unreachable:
            log.warning("%s at %s: no connection to be had, given back", work.agent.name, work.where)
            await self.settling.release(work.deliveries, RECONNECT)
            return
        if lost:
            # Mostly the server's doing. But a handler may end its connection each time, and not go on for ever.
            log.warning("%s at %s: its connection was lost: %s", work.agent.name, work.where, one_line(error))
            why = f"its connection was lost: {sentence(error)}"
            for together in _recorded_together(work.agent, work.deliveries):
                await self.settling.stall(work.agent.name, together, why, RECONNECT)
            return
        detail = _traceback(error)
        failed: list[FailedAlone] = [(delivery, error, None) for delivery in work.deliveries]
        await self._record(work.agent, self._failures(work, failed, detail))

    def _failures(self, work: Work, failed: list[FailedAlone], detail: str | None = None) -> list[Failure]:
        """What is recorded of failed attempts. The agent's backoff is asked inside a time limit like the handler's, by
        the end of which the default is used for this one and the others.
        """
        failures: list[Failure] = []
        endless = False
        work.begin()
        try:
            for delivery, error, retry_after in failed:
                if isinstance(error, str):
                    error = WakelogError(error)
                if retry_after is None and isinstance(error, RetryAfter):
                    retry_after = error.delay
                retry_in = None
                if retry_after is not None:
                    retry_in = _delay(retry_after)
                elif not endless:
                    try:
                        retry_in = _backoff(delivery)
                    except TimeLimitExceeded:
                        log.warning("%s: its backoff does not end; the default is used", work.agent.name)
                        endless = True
                final = isinstance(error, DoNotRetry)
                failures.append(
                    Failure(delivery, sentence(error), detail or _traceback(error), retry_in, final)
                )
        finally:
            work.end()
        return failures

    async def _record(self, agent: AgentDefinition, failures: list[Failure]) -> None:
        """Record failed attempts, together; each by itself where work is done in order and lines step forward."""
        for together in _recorded_together(agent, failures):
            await self._tell(agent.name, together)

    async def _tell(self, agent: str, failures: list[Failure]) -> None:
        try:
            next_ones = await self.settling.fail(agent, failures)
        except LeaseLost as lost:
            if len(failures) > 1:
                for failure in failures:
                    await self._tell(agent, [failure])
            else:
                log.warning("%s", lost)
                self.settling.forget([failures[0].delivery])
        except UnknownAgent as removed:
            log.warning("%s", removed)
            self.settling.forget([failure.delivery for failure in failures])
        else:
            for failure, next_in in list(zip(failures, next_ones, strict=True))[:MOST_LINES]:
                log.warning(
                    "%s at %s, attempt %s failed: %s; %s", agent, failure.delivery.position,
                    failure.delivery.attempt, failure.error,
                    "given up" if next_in is None else f"again in {next_in:.1f} s",
                )  # fmt: skip
            if len(failures) > MOST_LINES:
                log.warning("%s: and %s more of that batch", agent, len(failures) - MOST_LINES)


def _called(work: Work, context: Context | BatchContext, given: Any) -> tuple[list[Done], list[FailedAlone]]:
    """What a sync handler answers, in its thread."""
    read(work.deliveries)
    return answers(work, context, work.agent.handler(given, context))


def _backoff(delivery: Delivery) -> float | None:
    try:
        wait = delivery.agent.retry_in(delivery.failures)
        return None if wait is None else _delay(wait)
    except Exception:
        log.exception("%s: its backoff failed; the default is used", delivery.agent.name)
        return None


def _recorded_together(agent: AgentDefinition, what: list[T]) -> Iterator[list[T]]:
    size = RECORDED_TOGETHER if agent.ordered_by is None else 1
    for start in range(0, len(what), size):
        yield what[start : start + size]


def _delay(duration: Duration) -> float:
    """Seconds to wait, at most a year; a second where it is no duration, which the handler is told."""
    try:
        return min(seconds(duration), LONGEST_DELAY)
    except BadInput as error:
        log.warning("%s; one second is taken", error)
        return 1.0


def _time_limit(work: Work) -> WakelogError:
    return WakelogError(f"the time limit of {work.agent.timeout:g} s passed")


def sentence(error: BaseException) -> str:
    """What is recorded of a failed attempt."""
    name = type(error).__name__
    text = str(error)
    if isinstance(error, RetryAfter | DoNotRetry | WakelogError):
        return text or name
    return f"{name}: {text}" if text else name


def _traceback(error: BaseException) -> str | None:
    return "".join(traceback.format_exception(error)) if error.__traceback__ is not None else None
