"""A worker's standing with the database: its id, its lock, its bell, and what it asks on that connection.

How this stays correct
----------------------
The id comes from a sequence in a durable commit, before anything is claimed with it, so no id is used twice,
not even after a crash of the server. Claims themselves are committed asynchronously: one that is lost in a
crash takes cursor and leases back with it.

The connection holds the worker's advisory lock. When the connection goes, the server frees the lock, the
doorkeeper sees it within a second, and others take over; this worker cannot know whether that has happened,
so it drops everything and starts anew under another id.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.types.json import set_json_loads

from wakelog.agents.definition import AgentDefinition, Family
from wakelog.errors import BadInput, UnknownWorker, translate
from wakelog.log.closed import closings
from wakelog.log.connections import converse
from wakelog.log.private import is_veiled, shown
from wakelog.postgres import jsonb
from wakelog.postgres.connect import connect_async
from wakelog.privacy.loading import read_json_veiled
from wakelog.worker.delivery import Delivery

_CLAIM: LiteralString = """
    select c.attempt, c.stalled, c.position, c.id, c.type, c.source, c.stream, c.version, c.payload,
           nullif(c.metadata, '{}'), c.correlation_id, c.causation_id, c.idempotency_key, c.schema_version,
           c.occurred_at, c.recorded_at
    from wakelog.claim(%s, %s, %s, make_interval(secs => %s)) c
"""


async def open_connection(url: str, *, autocommit: bool = True, pooled: bool = False) -> AsyncConnection[Any]:
    """A connection as workers use them: fast JSON, and no prepared statements behind a pooler."""
    options: dict[str, Any] = {"prepare_threshold": None} if pooled else {}
    connection = await connect_async(url, autocommit=autocommit, application_name="wakelog worker", **options)
    set_json_loads(jsonb.decode_or_tell, connection)
    return connection


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought, as it came over the line, and when it was asked for, on the monotonic clock."""

    agent: AgentDefinition
    cursor: AsyncCursor[Any]
    asked_at: float

    @property
    def found(self) -> int:
        """How many deliveries it brought."""
        return self.cursor.rowcount


class Session:
    """One registration of a worker. Not reused: after a lost connection there is a new one."""

    def __init__(self, connection: AsyncConnection[Any], worker: int, lease: float, listening: bool) -> None:
        self.connection = connection
        self.worker = worker
        self.lease = lease
        self.listening = listening
        """Whether the bell can be heard; behind a pooler it cannot, and the worker polls."""
        self._there_at = 0.0
        self._rung_for: list[str] = []
        self._rung = False

    @classmethod
    async def start(
        cls,
        url: str,
        agents: Iterable[AgentDefinition],
        families: Iterable[Family] = (),
        *,
        lease: float,
        listening: bool,
    ) -> "Session":
        """Register the agents and this worker."""
        connection = await open_connection(url, pooled=not listening)
        try:
            agents = list(agents)
            for agent in agents:
                await _register(connection, agent)
            for family in families:
                await _one(
                    connection, "select wakelog.declare_family(%s, %s, %s)",
                    [family.name, None if family.types is None else list(family.types), family.must_match],
                )  # fmt: skip
            for name, (types, only) in closings().items():
                await _one(
                    connection, "select wakelog.close_family(%s, %s, %s)", [name, jsonb.encode(types), only]
                )
            row = await _one(
                connection,
                "select wakelog.start_worker(%s, %s, %s)",
                [f"{socket.gethostname()}:{os.getpid()}", [agent.name for agent in agents], listening],
            )
            session = cls(connection, row[0], lease, listening)
            if listening:
                await connection.execute("set synchronous_commit = off")
                # Not for an agent whose cursor somebody holds shall all the others wait.
                await connection.execute("set lock_timeout = '500ms'")
                channel = sql.Identifier(f"wakelog_worker_{session.worker}")
                await connection.execute(sql.SQL("listen {}").format(channel))
                connection.add_notify_handler(session._heard)
            return session
        except BaseException:
            await connection.close()
            raise

    async def ask(self, agent: AgentDefinition, limit: int) -> Claimed:
        """Claim up to ``limit`` deliveries of one agent; they are here when this returns, and not read yet."""
        asked_at = time.monotonic()
        cursor = self.connection.cursor(binary=True)
        read_json_veiled(cursor)
        try:
            await cursor.execute(
                _CLAIM,
                [agent.name, self.worker, limit, self.lease],
            )
        except psycopg.Error as error:
            raise translate(error) or error from None
        return Claimed(agent, cursor, asked_at)

    async def read(self, claimed: Claimed) -> list[Delivery]:
        """The deliveries that were claimed. What is private in them is `unveil`ed before anybody begins with them."""
        agent, asked_at = claimed.agent, claimed.asked_at
        return [Delivery.from_row(agent, row, asked_at) for row in await claimed.cursor.fetchall()]

    async def unveil(self, deliveries: list[Delivery]) -> None:
        """Decrypt what is private in their events. One that this cannot be done with has an `Unreadable` payload then.

        Raises psycopg.OperationalError: it is not the events' fault, and none of them may have been decrypted.
        """
        veiled = [delivery for delivery in deliveries if is_veiled(delivery.event)]
        if not veiled:
            return
        try:
            await self._show(veiled)
        except psycopg.OperationalError:
            raise
        except Exception:
            for delivery in veiled:
                try:
                    await self._show([delivery])
                except psycopg.OperationalError:
                    raise
                except Exception as error:
                    why = jsonb.Unreadable(f"{type(error).__name__}: {error}")
                    delivery.event = replace(delivery.event, payload=why, metadata={})

    async def _show(self, veiled: list[Delivery]) -> None:
        events = await converse(self.connection, shown(delivery.event for delivery in veiled))
        for delivery, event in zip(veiled, events, strict=True):
            delivery.event = event

    async def still_there(self) -> None:
        """Ask, once a second at most, whether the connection is; with it goes the lock that says this worker lives.

        Raises psycopg.OperationalError where it is not.
        """
        if time.monotonic() > self._there_at + 1.0:
            self._there_at = time.monotonic()
            await self.connection.execute("select")

    async def ready_agents(self, names: list[str]) -> list[str]:
        """Those of the agents for which a claim may find something."""
        cursor = await self.connection.execute("select agent from wakelog.ready_agents(%s)", [names])
        return [row[0] for row in await cursor.fetchall()]

    async def fall_asleep(self, room: int) -> None:
        """Say that there is nothing to do and room for more. Look once more before waiting."""
        self._rung = False
        self._rung_for.clear()
        row = await self._say("select wakelog.fall_asleep(%s, %s)", [self.worker, room])
        if not row[0]:
            raise UnknownWorker(f"worker {self.worker} was taken off the list")

    async def wake_up(self) -> None:
        """Say that there is no need to ring."""
        await self._say("select wakelog.wake_up(%s)", [self.worker])

    async def _say(self, query: LiteralString, parameters: list[Any]) -> tuple[Any, ...]:
        # The row of this worker may be in the hands of its own heartbeat, or of a ring. Neither is a lost connection.
        while True:
            try:
                return await _one(self.connection, query, parameters)
            except psycopg.errors.LockNotAvailable:
                continue

    async def sequence(self) -> None:
        """Sequence what the doorkeeper, if there is none, has not."""
        await self.connection.execute("select wakelog.sequence()")

    async def bell(self, timeout: float, stir: asyncio.Event) -> list[str] | None:
        """Wait to be rung, ``timeout`` seconds at most; the agents rung for, None if it was not.

        Empty where they are too many to name. Setting ``stir`` ends the wait early. Raises OperationalError when
        the connection is gone.
        """
        if not self._rung:
            loop = asyncio.get_running_loop()
            fd = self.connection.fileno()
            stir.clear()
            loop.add_reader(fd, stir.set)
            try:
                async with asyncio.timeout(max(timeout, 0.0)):
                    await stir.wait()
            except TimeoutError:
                return None
            finally:
                loop.remove_reader(fd)
            pgconn = self.connection.pgconn
            pgconn.consume_input()
            while (notification := pgconn.notifies()) is not None:
                self._hear(notification.extra.decode())
        if not self._rung:
            return None
        names = list(dict.fromkeys(self._rung_for))
        self._rung = False
        self._rung_for.clear()
        return names

    async def stop(self) -> None:
        """Take this worker off the list and close; what it still holds is taken over at once."""
        with contextlib.suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(5):
                await self.connection.execute("select wakelog.stop_worker(%s)", [self.worker])
        await self.close()

    async def close(self) -> None:
        """Close the connection, and with it give up the worker's lock."""
        await self.connection.close()

    def _heard(self, notification: psycopg.Notify) -> None:
        self._hear(notification.payload)

    def _hear(self, names: str) -> None:
        self._rung = True
        self._rung_for.extend(names.split())


async def _register(connection: AsyncConnection[Any], agent: AgentDefinition) -> None:
    try:
        await _one(
            connection, "select wakelog.register_agent(%s, %s)", [agent.name, jsonb.encode(agent.options())]
        )
    except (psycopg.DataError, psycopg.errors.SyntaxError) as error:
        raise BadInput(f'agent "{agent.name}": {error.diag.message_primary}') from None


async def _one(connection: AsyncConnection[Any], query: Any, parameters: list[Any]) -> tuple[Any, ...]:
    try:
        row = await (await connection.execute(query, parameters)).fetchone()
    except psycopg.Error as error:
        raise translate(error) or error from None
    assert row is not None
    return row
