"""Where a handler works that is rehearsed: its steps return what was recorded, its transaction is rolled back.

How nothing stays behind
------------------------
      begin --> wakelog.begin_rehearsal() --> the handler writes --> rolled back

The connection's commit is refused in Python. Should the handler send COMMIT by itself, the server refuses: the
transaction holds a row whose deferred constraint cannot hold (sql/tables/rehearsals.sql). Should it roll back and begin
another transaction, that one may only read, since the session says so. What a rollback does not take back is not taken
back here: values drawn from sequences. Notifications are not sent; locks are held until the handler ends.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection, pq

from wakelog.errors import BadInput, WakelogError
from wakelog.postgres import jsonb
from wakelog.worker.connections import HandlerConnections
from wakelog.worker.handler_connection import Any_Connection, AsyncHandlerConnection, HandlerConnection
from wakelog.worker.threads import TimeLimitExceeded, raise_in_thread

REFUSED = "expected no commit in a rehearsal, found one: whatever the handler writes is rolled back"
GRACE = 1.0
"""Seconds a thread has to end after its time limit, before it is left behind."""

_OUTSIDE = b"set default_transaction_read_only = on"
_INSIDE = b"begin read write; select wakelog.begin_rehearsal()"


class NotRecorded(BaseException):
    """A step has no recording. Not an Exception, so that handlers do not swallow it."""


class AsyncRehearsalConnection(AsyncHandlerConnection):
    """Whose transaction cannot be committed."""

    async def commit(self) -> None:
        raise BadInput(REFUSED)


class RehearsalConnection(HandlerConnection):
    """Whose transaction cannot be committed."""

    def commit(self) -> None:
        raise BadInput(REFUSED)


class RehearsalConnections(HandlerConnections):
    """Connections that are lent inside a transaction which can only be rolled back."""

    asynchronous = AsyncRehearsalConnection
    synchronous = RehearsalConnection

    def take_async(self, since: float = 0.0) -> AsyncHandlerConnection:
        return _began(super().take_async(since))

    def take_sync(self) -> HandlerConnection:
        return _began(super().take_sync())


def _began(connection: Any) -> Any:
    for statement in (_OUTSIDE, _INSIDE):
        # Not awaited, since handlers ask for their connection with a plain attribute.
        result: pq.abc.PGresult = connection.pgconn.exec_(statement)
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            said = connection.pgconn.get_error_message().strip()
            connection.pgconn.finish()
            raise WakelogError(
                f"no rehearsal could begin: {said}", hint="It needs what workers may do: wakelog_worker."
            )
    return connection


@dataclass(frozen=True, slots=True)
class LiveSteps:
    """Which steps are done for real instead of returning what was recorded: all, or those of these names."""

    every: bool = False
    names: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return self.every or name in self.names


@dataclass(slots=True)
class Recording(dict[str, Any]):
    """What steps returned, by name. To ask for one that has no recording, and is not live, ends the rehearsal."""

    steps: dict[str, Any]
    live: LiveSteps
    missing: list[str] = field(default_factory=list[str])

    def __contains__(self, name: object) -> bool:
        if name in self.live:
            return False
        if name not in self.steps:
            self.missing.append(str(name))
            raise NotRecorded(name)
        return True

    def __getitem__(self, name: str) -> Any:
        return self.steps[name]

    def __bool__(self) -> bool:
        return True


class RehearsalBench:
    """What one rehearsed attempt works with (see wakelog.agents.context.Bench)."""

    def __init__(self, connections: RehearsalConnections, is_async: bool, recording: Recording) -> None:
        self._connections = connections
        self._is_async = is_async
        self._recording = recording
        self._loop = asyncio.get_running_loop()
        self._connection: Any_Connection | None = None
        self._waited_for: concurrent.futures.Future[Any] | None = None

    def connection(self) -> Any_Connection:
        if self._connection is None:
            pool = self._connections
            self._connection = pool.take_async() if self._is_async else pool.take_sync()
        return self._connection

    async def finished_steps(self) -> dict[str, Any]:
        return self._recording

    async def record_step(self, name: str, result: str) -> Any:
        return jsonb.decode(result)

    async def extend(self, lease: float) -> None:
        pass

    async def run_in_thread(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it in a thread of its own: interrupted when this is cancelled, left behind where that does not help."""
        ended: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> None:
            try:
                ended.set_result(fn(*args, **kwargs))
            except BaseException as error:
                ended.set_exception(error)

        thread = threading.Thread(target=call, name="wakelog-rehearsal", daemon=True)
        thread.start()
        waiting = asyncio.wrap_future(ended)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await self._interrupt(thread)
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([waiting], timeout=GRACE)
            raise

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        self._waited_for = asyncio.run_coroutine_threadsafe(work, self._loop)
        return self._waited_for.result()

    async def close(self) -> None:
        """Roll back what was written."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._connections.give_back(connection, forgotten=False)

    async def _interrupt(self, thread: threading.Thread) -> None:
        if self._waited_for is not None:
            self._waited_for.cancel()
        if isinstance(self._connection, Connection):
            with contextlib.suppress(psycopg.Error):
                await asyncio.to_thread(self._connection.cancel_safe, timeout=2.0)
        if thread.is_alive() and thread.ident is not None:
            raise_in_thread(thread.ident, TimeLimitExceeded)
