"""Telling the database how deliveries ended.

How this stays correct
----------------------
Work that used no transaction of its own is acknowledged in batches: whatever has finished while the last batch
was being written goes into the next. A batch is one transaction per agent, with the events those deliveries
answer with. A delivery that this worker no longer holds is left out of it by the database, and its events too.

A batch whose outcome is unknown, because the connection broke, is written again: deliveries it had finished
are gone, those it had not are still there, and emitted events carry idempotency keys.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection

from wakelog.errors import LeaseLost, WakelogError, translate
from wakelog.postgres import jsonb
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.session import open_connection

log = logging.getLogger("wakelog.worker")

T = TypeVar("T")
Done = tuple[Delivery, list[dict[str, Any]]]


class Settling:
    """Writes outcomes on a connection of its own; makes it again when it breaks."""

    def __init__(self, url: str, worker: int, held: Held, *, pooled: bool) -> None:
        self._url = url
        self._worker = worker
        self._held = held
        self._pooled = pooled
        self._connection: AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()
        self._done: list[Done] = []
        self._some = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def done(self, delivery: Delivery, events: list[dict[str, Any]]) -> None:
        """Acknowledge with the next batch."""
        self._done.append((delivery, events))
        self._empty.clear()
        self._some.set()

    def forget(self, delivery: Delivery) -> None:
        """It was finished elsewhere, in the handler's own transaction."""
        self._held.drop([delivery])

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._done = self._done, []
            by_agent: defaultdict[str, list[Done]] = defaultdict(list)
            for done in batch:
                by_agent[done[0].agent.name].append(done)
            for agent, dones in by_agent.items():
                await self._ack(agent, dones)
            self._held.drop([delivery for delivery, _ in batch])
            if not self._done:
                self._empty.set()

    async def flush(self) -> None:
        """Wait until everything that is done has been written."""
        await self._empty.wait()

    async def fail(
        self, delivery: Delivery, error: str, detail: str | None, retry_in: float | None, *, final: bool
    ) -> float | None:
        """Record a failed attempt; returns the seconds to the next one, None when given up."""
        row = await self._ask(
            """select extract(epoch from next - wakelog.clock())::float8
               from wakelog.fail(%s, %s, %s, %s, %s, %s, make_interval(secs => %s), %s) as next""",
            [
                delivery.agent.name, delivery.position, self._worker, delivery.attempt, _storable(error),
                _storable(detail), retry_in, final,
            ],
        )  # fmt: skip
        self._held.drop([delivery])
        return row[0]

    async def release(self, deliveries: list[Delivery], delay: float = 0.0) -> None:
        """Give deliveries back untried."""
        by_agent: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_agent[delivery.agent.name].append(delivery)
        for agent, given in by_agent.items():
            await self._ask(
                "select wakelog.release(%s, %s, %s, %s, make_interval(secs => %s))",
                [agent, self._worker, [d.position for d in given], [d.attempt for d in given], delay],
            )
        self._held.drop(deliveries)

    async def finished_steps(self, delivery: Delivery) -> dict[str, Any]:
        """The steps of a delivery that have finished, with what they returned."""
        rows = await self._rows(
            "select name, result from wakelog.finished_steps(%s, %s)",
            [delivery.agent.name, delivery.position],
        )
        return dict(rows)  # pyright: ignore[reportArgumentType]

    async def record_step(self, delivery: Delivery, name: str, result: str) -> Any:
        """Remember what a step returned."""
        row = await self._ask(
            "select wakelog.record_step(%s, %s, %s, %s, %s, %s)",
            [delivery.agent.name, delivery.position, self._worker, delivery.attempt, name, result],
        )
        return row[0]

    async def extend(self, delivery: Delivery, lease: float) -> None:
        """Prolong the lease of one delivery."""
        await self._ask(
            "select wakelog.extend(%s, %s, %s, %s, make_interval(secs => %s))",
            [delivery.agent.name, delivery.position, self._worker, delivery.attempt, lease],
        )

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _ack(self, agent: str, dones: list[Done]) -> None:
        try:
            rows = await self._rows(
                "select * from wakelog.ack_many(%s, %s, %s, %s, %s)",
                [
                    agent, self._worker, [d.position for d, _ in dones], [d.attempt for d, _ in dones],
                    jsonb.encode([event for _, events in dones for event in events]),
                ],
            )  # fmt: skip
        except (psycopg.Error, WakelogError) as error:
            # One of the answers cannot be stored: find it, and let only its own delivery fail.
            if len(dones) > 1:
                for done in dones:
                    await self._ack(agent, [done])
                return
            delivery = dones[0][0]
            log.error("%s at %s: its answer was refused: %s", agent, delivery.position, error)
            await self._unless_lost(
                self.fail(delivery, f"its answer was refused: {error}", None, None, final=False)
            )
            return
        acked = {row[0] for row in rows}
        for delivery, _ in dones:
            if delivery.position not in acked:
                log.warning("%s at %s: the lease was lost, its work is dropped", agent, delivery.position)

    async def _unless_lost(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except LeaseLost as lost:
            log.warning("%s", lost)

    async def _ask(self, query: Any, parameters: list[Any]) -> tuple[Any, ...]:
        return (await self._rows(query, parameters))[0]

    async def _rows(self, query: Any, parameters: list[Any]) -> list[tuple[Any, ...]]:
        async with self._lock:
            return await self._insist(lambda c: _fetch(c, query, parameters))

    async def _insist(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Do it on the connection, and again on a new one for as long as connections break."""
        pause = 0.1
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await open_connection(self._url, pooled=self._pooled)
                return await work(self._connection)
            except psycopg.OperationalError as error:
                if not worth_another_try(error, self._connection):
                    raise translate(error) or error from None
                log.warning("settling: trying again: %s", str(error).strip())
            except WakelogError as error:
                if self._connection is not None and not self._connection.closed:
                    raise
                log.warning("settling: %s", error)
            except psycopg.Error as error:
                raise translate(error) or error from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


async def _fetch(
    connection: AsyncConnection[Any], query: Any, parameters: list[Any]
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, parameters)).fetchall()


def worth_another_try(error: psycopg.OperationalError, connection: AsyncConnection[Any] | None) -> bool:
    """Whether the connection or the server is to blame, and not what was asked."""
    if connection is None or connection.closed or error.sqlstate is None:
        return True
    # Connection exceptions; deadlock and serialization; operator intervention (shutdown, crash, start-up).
    return error.sqlstate[:2] in ("08", "40", "57")


def _storable(text: str | None) -> str | None:
    """Postgres has no text with NUL in it; an error message may have."""
    return text.replace("\x00", "\ufffd") if text is not None else None
