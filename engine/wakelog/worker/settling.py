"""Telling the database how deliveries ended.

How this stays correct
----------------------
Work that used no transaction of its own is acknowledged in batches: whatever has finished while the last batch
was being written goes into the next. A batch is one transaction per agent, with the events those deliveries
answer with. A delivery that this worker no longer holds is left out of it by the database, and its events too.

A batch whose outcome is unknown, because the connection broke, is written again: deliveries it had finished
are gone, those it had not are still there, and emitted events carry idempotency keys.

Three lanes, each a connection of its own, so that none waits for another: answers that append to a stream may
have to wait for whoever has that stream's lock, a handler's own open transaction among them, and must not
keep other answers, or that handler's next step, from being written. They wait a second at a time. So do answers
with something private in them, which wait for a forgetting: their transaction asks for the keys, and holds these
subjects until it has ended.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection

from wakelog.errors import LeaseLost, UnknownAgent, WakelogError
from wakelog.log.connections import converse
from wakelog.log.private import answers_hidden
from wakelog.postgres import jsonb
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.lane import Lane

log = logging.getLogger("wakelog.worker")

Done = tuple[Delivery, list[dict[str, Any]]]
"""A delivery whose work is done, and the events it answers with."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, as the database is told."""

    delivery: Delivery
    error: str
    detail: str | None = None
    retry_in: float | None = None
    """Seconds; None leaves it to the agent's backoff."""
    final: bool = False


_ACK: LiteralString = "select * from wakelog.ack_many(%s, %s, %s, %s, %s)"

STREAM_PATIENCE = 1000
"""Milliseconds an answer waits for a stream before others get their turn."""


class Settling:
    """Writes the outcomes of one worker's deliveries."""

    def __init__(self, url: str, worker: int, held: Held, *, pooled: bool) -> None:
        self._worker = worker
        self._held = held
        self._records = Lane(url, pooled=pooled)
        self._answers = Acknowledging(self, Lane(url, pooled=pooled))
        self._streams = Acknowledging(self, Lane(url, pooled=pooled, lock_timeout=STREAM_PATIENCE))

    def done(self, dones: list[Done]) -> None:
        """Acknowledge with the next batch, in one transaction."""
        waits = any(
            event.get("stream") is not None or "private" in event for _, events in dones for event in events
        )
        (self._streams if waits else self._answers).add(dones)

    def forget(self, deliveries: list[Delivery]) -> None:
        """They were finished elsewhere: in the handler's own transaction, or by another worker."""
        self._held.drop(deliveries)

    async def run(self) -> None:
        """Write batches until cancelled."""
        await asyncio.gather(self._answers.run(), self._streams.run())

    async def flush(self) -> None:
        """Wait until everything that is done has been written."""
        await self._answers.flush()
        await self._streams.flush()

    async def ack(self, lane: Lane, agent: str, dones: list[Done]) -> set[int]:
        """Acknowledge deliveries of one agent in one transaction; the positions that were still held."""
        events = [event for _, its_events in dones for event in its_events]

        def parameters(sent: Sequence[Mapping[str, Any]]) -> list[Any]:
            return [
                agent, self._worker, array(d.position for d, _ in dones), array(d.attempt for d, _ in dones),
                jsonb.encode(sent),
            ]  # fmt: skip

        async def with_keys(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            sent = await converse(connection, answers_hidden(events))
            return await (await connection.execute(_ACK, parameters(sent))).fetchall()

        if any("private" in event for event in events):
            rows = await lane.transaction(with_keys)
        else:
            rows = await lane.rows(_ACK, parameters(events))
        return {row[0] for row in rows}

    async def fail(self, agent: str, failures: list[Failure]) -> list[float | None]:
        """Record failed attempts of one agent; for each the seconds to the next one, None when given up.

        In one transaction: where one of them is not held any more, LeaseLost is raised and none is recorded.
        """
        held = [failure.delivery for failure in failures]
        rows = await self._records.rows(
            """select extract(epoch from next - wakelog.clock())::float8
               from unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[], %s::float8[], %s::boolean[])
                    with ordinality as f (position, attempt, error, detail, retry_in, final, ordinal)
               cross join lateral wakelog.fail(
                   %s, f.position, %s, f.attempt, f.error, f.detail, make_interval(secs => f.retry_in),
                   f.final) as next
               order by f.ordinal""",
            [
                [d.position for d in held], [d.attempt for d in held],
                [_storable(failure.error) for failure in failures],
                [_storable(failure.detail) for failure in failures],
                [failure.retry_in for failure in failures], [failure.final for failure in failures],
                agent, self._worker,
            ],
        )  # fmt: skip
        self._held.drop(held)
        for (next_in,) in rows:
            if next_in is not None:
                self._held.again_in(next_in)
        return [row[0] for row in rows]

    async def release(self, deliveries: list[Delivery], delay: float = 0.0) -> None:
        """Give deliveries back untried."""
        by_agent: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_agent[delivery.agent.name].append(delivery)
        for agent, given in by_agent.items():
            try:
                await self._records.rows(
                    "select wakelog.release(%s, %s, %s, %s, make_interval(secs => %s))",
                    [agent, self._worker, [d.position for d in given], [d.attempt for d in given], delay],
                )
            except UnknownAgent as removed:
                log.warning("%s", removed)
        self._held.drop(deliveries)
        if delay > 0:  # at once: the database has a worker rung
            self._held.again_in(delay)

    async def stall(self, agent: str, deliveries: list[Delivery], error: str, delay: float) -> None:
        """Record that deliveries of one agent came to no end, as if the worker had died over them."""
        await self._records.rows(
            "select wakelog.stall(%s, %s, %s, %s, %s, make_interval(secs => %s))",
            [
                agent, self._worker, [d.position for d in deliveries], [d.attempt for d in deliveries],
                _storable(error), delay,
            ],
        )  # fmt: skip
        self._held.drop(deliveries)
        self._held.again_in(delay)

    async def finished_steps(self, delivery: Delivery) -> dict[str, Any]:
        """The steps of a delivery that have finished, with what they returned."""
        rows = await self._records.rows(
            "select name, result from wakelog.finished_steps(%s, %s)",
            [delivery.agent.name, delivery.position],
        )
        return dict(rows)  # pyright: ignore[reportArgumentType]

    async def record_step(self, delivery: Delivery, name: str, result: str) -> Any:
        """Remember what a step returned."""
        rows = await self._records.rows(
            "select wakelog.record_step(%s, %s, %s, %s, %s, %s)",
            [delivery.agent.name, delivery.position, self._worker, delivery.attempt, name, result],
        )
        return rows[0][0]

    async def extend(self, agent: str, deliveries: list[Delivery], lease: float) -> None:
        """Prolong the leases of deliveries of one agent, of all or of none."""
        await self._records.rows(
            """select wakelog.extend(%s, d.position, %s, d.attempt, make_interval(secs => %s))
               from unnest(%s::bigint[], %s::integer[]) as d (position, attempt)""",
            [
                agent, self._worker, lease, [d.position for d in deliveries], [d.attempt for d in deliveries],
            ],
        )  # fmt: skip

    async def close(self) -> None:
        for lane in (self._records, self._answers.lane, self._streams.lane):
            await lane.close()


class Acknowledging:
    """One queue of finished deliveries, and the lane they are written in."""

    def __init__(self, settling: Settling, lane: Lane) -> None:
        self.lane = lane
        self._settling = settling
        self._queue: list[Done] = []
        self._some = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, dones: list[Done]) -> None:
        self._queue.extend(dones)
        self._empty.clear()
        self._some.set()

    async def flush(self) -> None:
        await self._empty.wait()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._queue = self._queue, []
            by_agent: defaultdict[str, list[Done]] = defaultdict(list)
            for done in batch:
                by_agent[done[0].agent.name].append(done)
            for agent, dones in by_agent.items():
                await self._write(agent, self._last_attempts(agent, dones))
            if not self._queue:
                self._empty.set()

    async def _write(self, agent: str, dones: list[Done]) -> None:
        try:
            acked = await self._settling.ack(self.lane, agent, dones)
        except UnknownAgent as removed:
            log.warning("%s", removed)
            acked = {delivery.position for delivery, _ in dones}
        except (psycopg.Error, WakelogError) as error:
            if len(dones) > 1:
                # One of them cannot be written: the others can.
                for done in dones:
                    await self._write(agent, [done])
            elif isinstance(error, psycopg.errors.LockNotAvailable):
                self.add(dones)  # its stream is somebody else's at the moment; the lease goes on
            else:
                await self._refuse(dones[0][0], error)
            return
        self._settling.forget([delivery for delivery, _ in dones])
        self._say_lost(agent, [delivery for delivery, _ in dones if delivery.position not in acked])

    def _last_attempts(self, agent: str, dones: list[Done]) -> list[Done]:
        """Without those of which a later attempt is among them.

        This worker had lost them, and claimed their events again. Their answers are for the same events, and would be
        taken for the later ones'.
        """
        if len({delivery.position for delivery, _ in dones}) == len(dones):
            return dones
        last: dict[int, int] = {}
        for delivery, _ in dones:
            last[delivery.position] = max(delivery.attempt, last.get(delivery.position, 0))
        lost = [delivery for delivery, _ in dones if delivery.attempt < last[delivery.position]]
        self._settling.forget(lost)
        self._say_lost(agent, lost)
        return [done for done in dones if done[0].attempt == last[done[0].position]]

    def _say_lost(self, agent: str, lost: list[Delivery]) -> None:
        for delivery in lost:
            log.warning("%s at %s: the lease was lost, its work is dropped", agent, delivery.position)

    async def _refuse(self, delivery: Delivery, error: Exception) -> None:
        log.error("%s at %s: its answer was refused: %s", delivery.agent.name, delivery.position, error)
        try:
            await self._settling.fail(
                delivery.agent.name, [Failure(delivery, f"its answer was refused: {error}")]
            )
        except (LeaseLost, UnknownAgent) as lost:
            log.warning("%s", lost)
            self._settling.forget([delivery])


def _storable(text: str | None) -> str | None:
    """What Postgres takes as text: no NUL, no half of a surrogate pair, both of which an error may quote."""
    if text is None:
        return None
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def array(numbers: Iterable[int]) -> str:
    """Numbers as PostgreSQL writes an array; several times as quick as to have psycopg adapt each."""
    return "{" + ",".join(map(str, numbers)) + "}"
