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

Time limits. An async handler is cancelled. One that never lets go of the event loop, and a sync one in its
thread, get an exception raised inside them by the watchdog. A thread that does not end even so (it sleeps in
C) is left behind and the process asks to be replaced, since no thread can be killed; what it writes is never
committed.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import logging
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import ClientCursor, Connection
from psycopg.pq import TransactionStatus

from wakelog.agents.batch import BatchContext
from wakelog.agents.context import Context
from wakelog.agents.definition import AgentDefinition
from wakelog.durations import Duration, seconds
from wakelog.errors import (
    BadInput,
    DatabaseUnreachable,
    DoNotRetry,
    GiveBack,
    LeaseLost,
    RetryAfter,
    UnknownAgent,
    UnreadableEvent,
    WakelogError,
    one_line,
    translate,
)
from wakelog.log.connections import converse
from wakelog.log.private import answers_hidden
from wakelog.postgres import jsonb
from wakelog.postgres.jsonb import Unreadable
from wakelog.worker.answers import answers, context_for
from wakelog.worker.connections import Any_Connection, AsyncHandlerConnection, HandlerConnections
from wakelog.worker.delivery import Delivery, Work
from wakelog.worker.settling import Done, Failure, Settling, array
from wakelog.worker.time_limit import within

log = logging.getLogger("wakelog.worker")

T = TypeVar("T")

PATIENTLY: LiteralString = "select set_config('lock_timeout', '30s', true)"
"""How long an acknowledgement waits for a stream that another open transaction appends to, or for a forgetting."""
ACK_COMMIT: LiteralString = f"{PATIENTLY}, wakelog.ack_all(%s, %s, %s, %s, %s); commit;"
"""One round trip, together with what forgets the handler's settings. Where the first statement fails, the server
does not go on to the next."""
LONGEST_DELAY = 366 * 86400.0
"""Seconds; more is not meant."""
RECONNECT = 0.5
"""Seconds after which an event may be tried again whose handler was without a connection."""
THREAD_GRACE = 1.0
"""Seconds a thread has to end after its time limit, before it is left behind."""
RECORDED_TOGETHER = 500
"""Failures of one batch that are recorded in one transaction."""
MOST_LINES = 5
"""So many of them are told in the log, a line each."""


class TimeLimitExceeded(BaseException):
    """Raised inside a handler by the watchdog. Not an Exception, so that handlers do not swallow it."""


class Execution:
    """Runs deliveries. One per worker session."""

    def __init__(
        self, worker: int, connections: HandlerConnections, settling: Settling, threads: int,
        replace_me: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.worker = worker
        self.connections = connections
        self.settling = settling
        self.loop = asyncio.get_running_loop()
        # Twice as many: one that was left behind keeps nobody waiting until the process is replaced.
        self.threads = concurrent.futures.ThreadPoolExecutor(2 * threads, "wakelog-handler")
        self.replace_me = replace_me

    async def run(self, work: Work, task: asyncio.Task[Any]) -> None:
        """Run the handler once and bring every delivery to its end; ``task`` is the one this is awaited in."""
        bench = WorkBench(self, work)
        work.task = task
        try:
            try:
                await self._set_unreadable_aside(work)
                if work.deliveries:
                    await self._finish(work, *await self._call(work, bench), bench)
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

    async def in_thread(self, bench: "WorkBench", fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a sync function in a thread that the watchdog can reach."""
        work = bench.work

        def call() -> Any:
            ident = threading.get_ident()
            work.threads.add(ident)
            try:
                return fn(*args, **kwargs)
            finally:
                work.threads.discard(ident)
                # One raised too late would end the pool's thread instead.
                raise_in_thread(ident, None)

        future = self.threads.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and work.threads:
                await bench.interrupt()
                ending = asyncio.wrap_future(future)
                ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                await asyncio.wait([ending], timeout=THREAD_GRACE)
                if work.threads:
                    self.replace_me(f'a thread of agent "{work.agent.name}" does not end')
            raise

    async def _call(self, work: Work, bench: "WorkBench") -> "tuple[Context | BatchContext, Any]":
        agent = work.agent
        context = context_for(work, bench)
        given = context.event if isinstance(context, Context) else list(context.events)
        work.begin()
        try:
            called = (
                agent.handler(given, context)
                if agent.is_async
                else self.in_thread(bench, agent.handler, given, context)
            )
            return context, await within(agent.timeout, called)
        finally:
            work.end()

    async def _finish(
        self, work: Work, context: Context | BatchContext, result: Any, bench: "WorkBench"
    ) -> None:
        done, failed = answers(work, context, result)
        if not bench.wrote():
            self.settling.done(done)
        elif done:
            await bench.commit(done)
            self.settling.forget([delivery for delivery, _ in done])
        work.deliveries = [delivery for delivery, _, _ in failed]
        if failed:
            await bench.close()
            await self._record(work.agent, [self._failure(*one) for one in failed])

    async def _set_unreadable_aside(self, work: Work) -> None:
        """Fail those whose JSON cannot be read in Python; the others go on without them."""
        unreadable = [(d, why) for d in work.deliveries if (why := _unreadable(d)) is not None]
        if unreadable:
            work.deliveries = [d for d in work.deliveries if _unreadable(d) is None]
            await self._record(work.agent, [self._failure(delivery, why) for delivery, why in unreadable])

    async def _let_go(self, work: Work, delay: float) -> None:
        try:
            await self.settling.release(work.deliveries, delay)
        except (psycopg.Error, WakelogError):
            self.settling.forget(work.deliveries)

    async def _end_late(self, work: Work, bench: "WorkBench") -> None:
        """The time limit passed; not this handler's fault where another one held the event loop."""
        if work.blocked:
            await bench.close()
            await self.settling.release(work.deliveries)
        else:
            await self._fail(work, bench, _time_limit(work))

    async def _fail(self, work: Work, bench: "WorkBench", error: BaseException) -> None:
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
        await self._record(
            work.agent, [self._failure(delivery, error, detail=detail) for delivery in work.deliveries]
        )

    def _failure(
        self, delivery: Delivery, error: BaseException | str, retry_after: Duration | None = None,
        *, detail: str | None = None,
    ) -> Failure:  # fmt: skip
        if isinstance(error, str):
            error = WakelogError(error)
        retry_in = self._retry_in(delivery, error) if retry_after is None else _delay(retry_after)
        final = isinstance(error, DoNotRetry)
        return Failure(delivery, sentence(error), detail or _traceback(error), retry_in, final)

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

    def _retry_in(self, delivery: Delivery, error: BaseException) -> float | None:
        try:
            if isinstance(error, RetryAfter):
                return _delay(error.delay)
            wait = delivery.agent.retry_in(delivery.failures)
            return None if wait is None else _delay(wait)
        except Exception:
            log.exception("%s: its backoff failed; the default is used", delivery.agent.name)
            return None


class WorkBench:
    """What one attempt works with: its connection, its steps, its lease (see wakelog.agents.context.Bench)."""

    __slots__ = ("_connection", "_execution", "_forgotten", "_unreachable", "_waited_for", "work")

    def __init__(self, execution: Execution, work: Work) -> None:
        self._execution = execution
        self.work = work
        self._connection: Any_Connection | None = None
        self._forgotten = False
        """Whether what the handler set on its connection has been forgotten with the commit."""
        self._unreachable = False
        """Whether a connection was asked for in vain."""
        self._waited_for: concurrent.futures.Future[Any] | None = None
        """What a handler's thread waits for in the event loop."""

    def connection(self) -> Any_Connection:
        if self._connection is None:
            pool = self._execution.connections
            self._unreachable = True
            self._connection = pool.take_async() if self.work.agent.is_async else pool.take_sync()
            self._unreachable = False
        return self._connection

    def wrote(self) -> bool:
        """Whether the handler has begun a transaction."""
        connection = self._connection
        return connection is not None and connection.info.transaction_status != TransactionStatus.IDLE

    async def commit(self, done: list[Done]) -> None:
        """Acknowledge and commit what the handler wrote, in one round trip, or three where keys are needed.

        Raises SubjectForgotten.
        """
        connection = self._connection
        assert connection is not None
        _expect_committable(connection)
        events: Sequence[Mapping[str, Any]] = [event for _, its_events in done for event in its_events]
        if any("private" in event for event in events):
            events = await self._hide(connection, events)
        parameters = [
            self.work.agent.name, self._execution.worker,
            array(delivery.position for delivery, _ in done), array(delivery.attempt for delivery, _ in done),
            jsonb.encode(events),
        ]  # fmt: skip
        statements = ACK_COMMIT + self._execution.connections.forget
        try:
            if isinstance(connection, AsyncHandlerConnection):
                await connection.workers_own.execute(statements, parameters)
            else:
                await asyncio.to_thread(ClientCursor(connection).execute, statements, parameters)
            self._forgotten = True
        except psycopg.Error as error:
            raise translate(error) or error from error

    async def _hide(
        self, connection: Any_Connection, events: Sequence[Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Any]]:
        """Encrypt what is private, with keys that hold their subjects until the commit."""
        if isinstance(connection, AsyncHandlerConnection):
            await connection.execute(PATIENTLY)
            return await converse(connection, answers_hidden(events))

        def in_thread() -> Sequence[Mapping[str, Any]]:
            connection.execute(PATIENTLY)
            return converse(connection, answers_hidden(events))

        return await asyncio.to_thread(in_thread)

    def unreachable(self, error: BaseException) -> bool:
        """Whether this attempt asked for a connection and there was none to be had, which is nobody's failure."""
        return isinstance(error, DatabaseUnreachable) and self._unreachable

    def connection_lost(self, error: BaseException) -> bool:
        """Whether it was this attempt's connection that broke, whoever broke it."""
        connection = self._connection
        return (
            connection is not None
            and isinstance(error, psycopg.OperationalError)
            and (connection.broken or (error.sqlstate or "")[:2] in ("08", "57"))
            and not isinstance(error, psycopg.errors.QueryCanceled)  # by the handler's own statement_timeout
        )

    async def finished_steps(self) -> dict[str, Any]:
        return await self._execution.settling.finished_steps(self.work.deliveries[0])

    async def record_step(self, name: str, result: str) -> Any:
        return await self._execution.settling.record_step(self.work.deliveries[0], name, result)

    async def run_in_thread(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._execution.in_thread(self, fn, *args, **kwargs)

    async def extend(self, lease: float) -> None:
        await self._execution.settling.extend(self.work.agent.name, self.work.deliveries, lease)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have the event loop do this, and wait for it in a handler's thread, until interrupted."""
        self._waited_for = asyncio.run_coroutine_threadsafe(work, self._execution.loop)
        return self._waited_for.result()

    async def interrupt(self) -> None:
        """Cancel what a sync handler may be waiting for: a step to be stored, a query."""
        if self._waited_for is not None:
            self._waited_for.cancel()
        if isinstance(self._connection, Connection):
            with contextlib.suppress(psycopg.Error):
                await asyncio.to_thread(self._connection.cancel_safe, timeout=2.0)

    async def close(self) -> None:
        """Return the connection, rolling back what is open on it.

        A thread that was left behind keeps its own: it can do no harm, for nobody will commit it.
        """
        connection, self._connection = self._connection, None
        if connection is not None and not (self.work.threads and isinstance(connection, Connection)):
            await self._execution.connections.give_back(connection, forgotten=self._forgotten)


def raise_in_thread(ident: int, error: type[BaseException] | None) -> None:
    """Have CPython raise ``error`` in a thread at its next bytecode; None takes back what is pending."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(error) if error is not None else None
    )


def _recorded_together(agent: AgentDefinition, what: list[T]) -> Iterator[list[T]]:
    size = RECORDED_TOGETHER if agent.ordered_by is None else 1
    for start in range(0, len(what), size):
        yield what[start : start + size]


def _expect_committable(connection: Any_Connection) -> None:
    if connection.closed and not connection.broken:
        raise BadInput("the handler closed its connection, and with it gave up its transaction")
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise BadInput("the handler went on after an error in its transaction, which is aborted")


def _unreadable(delivery: Delivery) -> WakelogError | None:
    for value in (delivery.event.payload, delivery.event.metadata):
        if isinstance(value, Unreadable):
            return BadInput(f"the event's JSON cannot be read in Python ({value.reason})")
    try:
        _ = delivery.event.data
    except UnreadableEvent as error:
        return error
    return None


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
