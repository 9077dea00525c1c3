"""Running one handler inside its limits, and deciding how the delivery ends.

How this stays correct
----------------------
      claimed --> running --> done      acknowledged with the next batch, or, where the handler wrote through
                     |                  ctx.connection, inside that transaction: effects, emitted events and
                     |                  acknowledgement are one commit
                     |--> failed        its transaction is rolled back first, then the failure is recorded in
                     |                  a transaction of its own: another attempt, or a dead letter
                     |--> given back    the attempt does not count
                     `--> lost          another worker has it: nothing is written

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
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, ClientCursor, Connection
from psycopg.pq import TransactionStatus

from wakelog.agents.context import Context
from wakelog.durations import Duration, seconds
from wakelog.errors import (
    BadInput,
    DatabaseUnreachable,
    DoNotRetry,
    GiveBack,
    LeaseLost,
    RetryAfter,
    UnknownAgent,
    WakelogError,
    translate,
)
from wakelog.log.values import json_text
from wakelog.postgres import jsonb
from wakelog.postgres.jsonb import Unreadable
from wakelog.worker.connections import Any_Connection, HandlerConnections
from wakelog.worker.delivery import Delivery
from wakelog.worker.settling import Settling

log = logging.getLogger("wakelog.worker")

ACK_COMMIT: LiteralString = """
    select set_config('lock_timeout', %s, true), wakelog.ack(%s, %s, %s, %s, null, %s);
    commit;
"""
"""One round trip, together with what forgets the handler's settings. Where the first statement fails, the server
does not go on to the next."""
LOCK_PATIENCE = "30s"
"""How long an acknowledgement waits for a stream that another open transaction appends to."""
LONGEST_DELAY = 366 * 86400.0
"""Seconds; more is not meant."""
THREAD_GRACE = 1.0
"""Seconds a thread has to end after its time limit, before it is left behind."""


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
        self.retries: list[float] = []
        """When failures recorded here are due again, on the monotonic clock."""

    async def run(self, delivery: Delivery) -> None:
        """Run the handler once and bring the delivery to its end."""
        bench = WorkBench(self, delivery)
        context = Context(
            delivery.event, delivery.agent.name, delivery.attempt, delivery.agent.is_async, bench
        )
        delivery.task = task = asyncio.current_task()
        assert task is not None
        try:
            try:
                _expect_readable(delivery)
                delivery.begin()
                try:
                    async with asyncio.timeout(delivery.agent.timeout):
                        if delivery.agent.is_async:
                            result = await delivery.agent.handler(delivery.event, context)
                        else:
                            result = await self.in_thread(
                                bench, delivery.agent.handler, delivery.event, context
                            )
                finally:
                    delivery.end()
                await self._finish(delivery, context, result, bench)
            except TimeoutError as error:
                # The handler may have run into a time-out of its own.
                if delivery.late:
                    await self._end_late(delivery, bench)
                else:
                    await self._fail(delivery, bench, error)
            except asyncio.CancelledError as error:
                if delivery.pushed:
                    while task.cancelling():
                        task.uncancel()
                    await self._end_late(delivery, bench)
                elif task.cancelling():
                    raise  # the worker stops
                else:
                    await self._fail(delivery, bench, error)  # something the handler awaited was cancelled
            except TimeLimitExceeded:
                await self._fail(delivery, bench, _time_limit(delivery))
            except GiveBack as given:
                await bench.close()
                await self.settling.release([delivery], _delay(given.delay))
            except LeaseLost:
                raise
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                await self._fail(delivery, bench, error)
        except (LeaseLost, UnknownAgent) as lost:
            log.warning("%s", lost)
            self.settling.forget(delivery)
        except Exception:
            # Nothing a handler does may end the worker, and with it the work of others.
            log.exception("%s at %s: its end could not be recorded", delivery.agent.name, delivery.position)
            await self._let_go(delivery)
        finally:
            await bench.close()

    async def in_thread(self, bench: "WorkBench", fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a sync function in a thread that the watchdog can reach."""
        delivery = bench.delivery

        def call() -> Any:
            ident = threading.get_ident()
            delivery.threads.add(ident)
            try:
                return fn(*args, **kwargs)
            finally:
                delivery.threads.discard(ident)
                # One raised too late would end the pool's thread instead.
                raise_in_thread(ident, None)

        future = self.threads.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and delivery.threads:
                await bench.interrupt()
                ending = asyncio.wrap_future(future)
                ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                await asyncio.wait([ending], timeout=THREAD_GRACE)
                if delivery.threads:
                    self.replace_me(f'a thread of agent "{delivery.agent.name}" does not end')
            raise

    async def _finish(self, delivery: Delivery, context: Context, result: Any, bench: "WorkBench") -> None:
        events = context.emitted
        if result is not None:
            events.append(_completed(delivery, result))
        if not bench.wrote():
            self.settling.done(delivery, events)
            return
        await bench.commit(jsonb.encode(events))
        self.settling.forget(delivery)

    async def _let_go(self, delivery: Delivery) -> None:
        try:
            await self.settling.release([delivery], 5.0)
        except (psycopg.Error, WakelogError):
            self.settling.forget(delivery)

    async def _end_late(self, delivery: Delivery, bench: "WorkBench") -> None:
        """The time limit passed; not this handler's fault where another one held the event loop."""
        if delivery.blocked:
            await bench.close()
            await self.settling.release([delivery])
        else:
            await self._fail(delivery, bench, _time_limit(delivery))

    async def _fail(self, delivery: Delivery, bench: "WorkBench", error: BaseException) -> None:
        lost_connection = bench.connection_lost(error)
        await bench.close()
        if lost_connection:
            log.warning(
                "%s at %s: the connection was lost, given back", delivery.agent.name, delivery.position
            )
            await self.settling.release([delivery], 0.5)
            return
        final = isinstance(error, DoNotRetry)
        retry_in = self._retry_in(delivery, error)
        next_in = await self.settling.fail(
            delivery, _sentence(error), _traceback(error), retry_in, final=final
        )
        if next_in is not None:
            self.retries.append(time.monotonic() + next_in)
        log.warning(
            "%s at %s, attempt %s failed: %s; %s", delivery.agent.name, delivery.position, delivery.attempt,
            _sentence(error), "given up" if next_in is None else f"again in {next_in:.1f} s",
        )  # fmt: skip

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

    __slots__ = ("_connection", "_execution", "_forgotten", "_unreachable", "_waited_for", "delivery")

    def __init__(self, execution: Execution, delivery: Delivery) -> None:
        self._execution = execution
        self.delivery = delivery
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
            self._connection = pool.take_async() if self.delivery.agent.is_async else pool.take_sync()
            self._unreachable = False
        return self._connection

    def wrote(self) -> bool:
        """Whether the handler has begun a transaction."""
        connection = self._connection
        return connection is not None and connection.info.transaction_status != TransactionStatus.IDLE

    async def commit(self, events: str) -> None:
        """Acknowledge and commit what the handler wrote, in one round trip."""
        delivery = self.delivery
        parameters = [
            LOCK_PATIENCE, delivery.agent.name, delivery.position, self._execution.worker, delivery.attempt, events,
        ]  # fmt: skip
        connection = self._connection
        assert connection is not None
        _expect_committable(connection)
        statements = ACK_COMMIT + self._execution.connections.forget
        try:
            if isinstance(connection, AsyncConnection):
                await AsyncClientCursor(connection).execute(statements, parameters)
            else:
                await asyncio.to_thread(ClientCursor(connection).execute, statements, parameters)
            self._forgotten = True
        except psycopg.Error as error:
            raise translate(error) or error from error

    def connection_lost(self, error: BaseException) -> bool:
        """Whether it was this attempt's connection that broke, which is nobody's failure."""
        connection = self._connection
        if isinstance(error, DatabaseUnreachable):
            return self._unreachable
        return (
            connection is not None
            and isinstance(error, psycopg.OperationalError)
            and (connection.broken or (error.sqlstate or "")[:2] in ("08", "57"))
            and not isinstance(error, psycopg.errors.QueryCanceled)  # by the handler's own statement_timeout
        )

    async def finished_steps(self) -> dict[str, Any]:
        return await self._execution.settling.finished_steps(self.delivery)

    async def record_step(self, name: str, result: str) -> Any:
        return await self._execution.settling.record_step(self.delivery, name, result)

    async def run_in_thread(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._execution.in_thread(self, fn, *args, **kwargs)

    async def extend(self, lease: float) -> None:
        await self._execution.settling.extend(self.delivery, lease)

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
        if connection is not None and not (self.delivery.threads and isinstance(connection, Connection)):
            await self._execution.connections.give_back(connection, forgotten=self._forgotten)


def raise_in_thread(ident: int, error: type[BaseException] | None) -> None:
    """Have CPython raise ``error`` in a thread at its next bytecode; None takes back what is pending."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(error) if error is not None else None
    )


def _expect_committable(connection: Any_Connection) -> None:
    if connection.closed and not connection.broken:
        raise BadInput("the handler closed its connection, and with it gave up its transaction")
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise BadInput("the handler went on after an error in its transaction, which is aborted")


def _expect_readable(delivery: Delivery) -> None:
    for value in (delivery.event.payload, delivery.event.metadata):
        if isinstance(value, Unreadable):
            raise BadInput(f"the event's JSON cannot be read in Python ({value.reason})")


def _completed(delivery: Delivery, result: Any) -> dict[str, Any]:
    json_text("the result", result)
    return {
        "position": delivery.position,
        "key": "completed",
        "type": f"{delivery.agent.name}.completed",
        "payload": result,
    }


def _delay(duration: Duration) -> float:
    """Seconds to wait, at most a year; a second where it is no duration, which the handler is told."""
    try:
        return min(seconds(duration), LONGEST_DELAY)
    except BadInput as error:
        log.warning("%s; one second is taken", error)
        return 1.0


def _time_limit(delivery: Delivery) -> WakelogError:
    return WakelogError(f"the time limit of {delivery.agent.timeout:g} s passed")


def _sentence(error: BaseException) -> str:
    name = type(error).__name__
    text = str(error)
    if isinstance(error, RetryAfter | DoNotRetry | WakelogError):
        return text or name
    return f"{name}: {text}" if text else name


def _traceback(error: BaseException) -> str | None:
    return "".join(traceback.format_exception(error)) if error.__traceback__ is not None else None
