"""Waiting until a projection has seen what somebody wrote."""

from typing import TYPE_CHECKING, Any, overload

from wakelog.durations import Duration, seconds
from wakelog.log.connections import Rows, Statement, run
from wakelog.log.event import Event

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wakelog.log.connections import AsyncConnection, SyncConnection

_WAIT = Statement(
    """
    select wakelog.wait_until(
        cast(%(projection)s as text), cast(%(position)s as bigint),
        make_interval(secs => cast(%(timeout)s as double precision))) as position
    """,
    ("position",),
)


@overload
def wait_until(
    connection: "SyncConnection",
    projection: str,
    position: int | Event | None = None,
    timeout: Duration = 10,
) -> int: ...
@overload
def wait_until(
    connection: "AsyncConnection",
    projection: str,
    position: int | Event | None = None,
    timeout: Duration = 10,
) -> "Awaitable[int]": ...
def wait_until(
    connection: "SyncConnection | AsyncConnection",
    projection: str,
    position: int | Event | None = None,
    timeout: Duration = 10,
) -> "int | Awaitable[int]":
    """Wait until readers of a projection see everything up to a position; how far it is then.

    Without a position, or with an event that has none yet, everything that was committed when this is called: so
    commit, and then wait. ``timeout`` is in seconds, or "5s". It needs no transaction, and must not be called in one of
    an isolation level above read committed.

    Raises:
        ProjectionBehind: it was not as far in time, or it has stopped over an event.
        UnknownProjection: there is none of that name.
    """
    wanted = position.position if isinstance(position, Event) else position
    parameters = {"projection": projection, "position": wanted, "timeout": seconds(timeout)}
    return run(connection, _WAIT, parameters, _scalar)


def _scalar(rows: Rows) -> Any:
    return rows[0][0]
