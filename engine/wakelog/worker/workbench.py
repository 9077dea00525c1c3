"""What one attempt works with: its connection, in whose transaction it ends, its steps, its thread, its lease."""

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import ClientCursor, Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from wakelog.errors import BadInput, DatabaseUnreachable, translate
from wakelog.log.connections import converse
from wakelog.log.private import answers_hidden
from wakelog.postgres import jsonb
from wakelog.worker.connections import HandlerConnections
from wakelog.worker.delivery import Work
from wakelog.worker.handler_connection import Any_Connection, AsyncHandlerConnection
from wakelog.worker.queue import WorkQueue
from wakelog.worker.settling import Done, Settling, array
from wakelog.worker.threads import HandlerThreads

PATIENTLY: LiteralString = "select set_config('lock_timeout', '30s', true)"
"""How long an acknowledgement waits for a stream that another open transaction appends to, or for a forgetting."""
ACK_COMMIT: LiteralString = f"{PATIENTLY}, wakelog.ack_all(%s, %s, %s, %s, %s); commit;"
"""One round trip, together with what forgets the handler's settings. Where the first statement fails, the server
does not go on to the next."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all attempts of a worker session share."""

    worker: int
    connections: HandlerConnections
    settling: Settling
    threads: HandlerThreads
    loop: asyncio.AbstractEventLoop
    queue: WorkQueue


class WorkBench:
    """What one attempt works with: its connection, its steps, its lease (see wakelog.agents.context.Bench)."""

    __slots__ = ("_connection", "_forgotten", "_shop", "_unreachable", "_waited_for", "work")

    def __init__(self, shop: Workshop, work: Work) -> None:
        self._shop = shop
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
            pool = self._shop.connections
            self._unreachable = True
            if self.work.agent.is_async:
                self._connection = pool.take_async(self.work.queued_at)
            else:
                self._connection = pool.take_sync()
            self._unreachable = False
        return self._connection

    def wrote(self) -> bool:
        """Whether the handler has begun a transaction, or has said something in one that was begun for it."""
        connection = self._connection
        if isinstance(connection, AsyncHandlerConnection):
            return connection.said
        return connection is not None and connection.info.transaction_status != TransactionStatus.IDLE

    async def commit(self, done: list[Done]) -> None:
        """Acknowledge and commit what the handler wrote, in one round trip, or three where keys are needed. Where the
        agent's next work waits already, its transaction is begun in the same.

        Raises SubjectForgotten.
        """
        connection = self._connection
        assert connection is not None
        _expect_committable(connection)
        events: Sequence[Mapping[str, Any]] = [event for _, its_events in done for event in its_events]
        if any("private" in event for event in events):
            events = await self._hide(connection, events)
        parameters = [
            self.work.agent.name, self._shop.worker,
            array(delivery.position for delivery, _ in done), array(delivery.attempt for delivery, _ in done),
            jsonb.encode(events),
        ]  # fmt: skip
        pool = self._shop.connections
        try:
            if not isinstance(connection, AsyncHandlerConnection):
                cursor = ClientCursor(connection, row_factory=tuple_row)
                await asyncio.to_thread(cursor.execute, ACK_COMMIT + pool.forget, parameters)
            elif self._shop.queue.next_is_of(self.work.agent) and pool.begins_ahead(connection):
                now = time.monotonic()
                await connection.workers_own.execute(ACK_COMMIT + pool.forget_and_begin, parameters)
                pool.has_begun(connection, now)
            else:
                await connection.workers_own.execute(ACK_COMMIT + pool.forget, parameters)
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
        return await self._shop.settling.finished_steps(self.work.deliveries[0])

    async def record_step(self, name: str, result: str) -> Any:
        return await self._shop.settling.record_step(self.work.deliveries[0], name, result)

    async def run_in_thread(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._shop.threads.call(self.work, self.interrupt, fn, *args, **kwargs)

    async def extend(self, lease: float) -> None:
        await self._shop.settling.extend(self.work.agent.name, self.work.deliveries, lease)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have the event loop do this, and wait for it in a handler's thread, until interrupted."""
        self._waited_for = asyncio.run_coroutine_threadsafe(work, self._shop.loop)
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
            unused = isinstance(connection, AsyncHandlerConnection) and connection.begun_ahead
            await self._shop.connections.give_back(connection, forgotten=self._forgotten or unused)


def _expect_committable(connection: Any_Connection) -> None:
    if connection.closed and not connection.broken:
        raise BadInput("the handler closed its connection, and with it gave up its transaction")
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise BadInput("the handler went on after an error in its transaction, which is aborted")
