"""Whether LISTEN works on the way to this database: behind a transaction-mode pooler it is accepted, and silent."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, Connection, sql
from psycopg.conninfo import make_conninfo

from wakelog.postgres.connect import connect

PATIENCE = 1.0
"""Seconds for which a notification is waited for, before the server is asked something else."""


@dataclass(frozen=True, slots=True)
class ListenProbe:
    """What a probe found.

    `works`: a notification from another connection arrived. `pooled`: what connects is no session of its own, so
    session advisory locks mean nothing either. `detail` is a sentence for the log.
    """

    works: bool
    pooled: bool
    detail: str


def probe_listen(
    way: str | Connection[Any] | AsyncConnection[Any], *, patience: float = PATIENCE
) -> ListenProbe:
    """Listen on a channel of our own, be notified by another connection, and see what arrives.

    `way` is a URL, or a connection whose parameters are used; the probe makes two new ones and closes them.

    Raises `DatabaseUnreachable`.
    """
    url = way if isinstance(way, str) else _parameters(way)
    with (
        connect(url, application_name="wakelog probe") as ears,
        connect(url, application_name="wakelog probe") as mouth,
    ):
        return _probe(ears, mouth, patience)


async def probe_listen_async(
    way: str | Connection[Any] | AsyncConnection[Any], *, patience: float = PATIENCE
) -> ListenProbe:
    """`probe_listen` for asyncio."""
    return await asyncio.to_thread(probe_listen, way, patience=patience)


def _probe(ears: Connection[Any], mouth: Connection[Any], patience: float) -> ListenProbe:
    token = secrets.randbits(31)
    channel = f"wakelog_probe_{token:x}"
    ears.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    ears.execute("select pg_advisory_lock(%s)", [token])
    # A pooler that lends one session to both lets both have the lock.
    stolen = _value(mouth, "select pg_try_advisory_lock(%s)", [token])
    kept = _value(
        ears,
        "select exists (select from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid()"
        " and objid = %s)",
        [token],
    )
    mouth.execute("select pg_notify(%s, '')", [channel])
    heard = _hears(ears, channel, patience)
    if not heard:
        # The server may only be slow. What it had to tell this session comes before the answer to another question.
        ears.execute("select")
        heard = _hears(ears, channel, 0)
    mouth.execute("select pg_advisory_unlock_all()")
    ears.execute("select pg_advisory_unlock_all()")
    pooled = bool(stolen) or not kept
    if heard and not pooled:
        detail = "LISTEN works"
    elif pooled:
        detail = (
            "expected a session of its own, found a pooler that shares sessions (transaction mode): "
            "notifications and session locks do not work through it; give Wakelog a direct connection"
        )
    else:
        detail = f"expected a notification within {patience:g} s, found none: something on the way drops them"
    return ListenProbe(works=heard and not pooled, pooled=pooled, detail=detail)


def _hears(ears: Connection[Any], channel: str, patience: float) -> bool:
    return any(note.channel == channel for note in ears.notifies(timeout=patience, stop_after=1))


def _value(connection: Connection[Any], query: Any, parameters: list[Any]) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row and row[0]


def _parameters(connection: Connection[Any] | AsyncConnection[Any]) -> str:
    return make_conninfo(connection.info.dsn, password=connection.info.password or None)
