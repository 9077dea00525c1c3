"""State that is folded when somebody asks for it: stored nowhere, or, of a stream, begun from a snapshot."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast, overload

from wakelog.errors import BadInput
from wakelog.log.connections import Rows, Statement, is_async, run
from wakelog.log.read import head, position_at, read, read_part
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.snapshots import state_from

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wakelog.log.connections import AsyncConnection, SyncConnection
    from wakelog.log.event import Event

_SNAPSHOT = Statement(
    """
    select s.p_version as version, s.p_position as position, s.p_next_version as next_version,
           s.p_state as state
    from wakelog.snapshot_before(
        cast(%(schema)s as text), cast(%(made_by)s as integer), cast(%(stream)s as text), cast(%(upto)s as bigint)) s
    where s.p_version is not null
    """,
    ("version", "position", "next_version", "state"),
)


@overload
def fold(
    connection: "SyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
    at: datetime | None = None,
) -> Any: ...
@overload
def fold(
    connection: "AsyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
    at: datetime | None = None,
) -> "Awaitable[Any]": ...
def fold(
    connection: "SyncConnection | AsyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
    at: datetime | None = None,
) -> Any:
    """The state of a projection declared with ``mode="live"``, folded now, from the beginning of the log.

    Of one ``stream`` or one ``correlation_id``, where either is given; as of the position ``upto``, or as of the moment
    ``at``, or else of what has a position now. Of a stream, where the projection has snapshots that this connection's
    role may read, it begins with the last one before; the result is the same. What its function raises is raised here.

    Raises BadInput where the projection is not a live one, for both ``upto`` and ``at``, and for a time without a zone.
    """
    if projection.mode != "live" or projection.fold is None or projection.initial is None:
        raise BadInput(
            f'projection "{projection.name}": expected one declared with mode="live", found mode="{projection.mode}"',
            hint="Its state is in its tables; read them.",
        )
    if upto is not None and at is not None:
        raise BadInput(f"expected one of upto and at, found both ({upto} and {at.isoformat()})")
    if is_async(connection):
        return _fold_async(cast("AsyncConnection", connection), projection, stream, correlation_id, upto, at)
    ours = cast("SyncConnection", connection)
    if upto is None:
        upto = head(ours) if at is None else position_at(ours, at)
    asked = _snapshot_of(projection, stream, correlation_id, upto)
    snapshot = run(ours, _SNAPSHOT, asked, _first) if asked else None
    state, events = _begin(ours, projection, snapshot, stream, correlation_id, upto)
    for event in cast("Iterable[Event]", events):
        state = projection.fold(state, event)
    return state


async def _fold_async(
    connection: "AsyncConnection",
    projection: ProjectionDefinition,
    stream: str | None,
    correlation_id: str | None,
    upto: int | None,
    at: datetime | None,
) -> Any:
    if upto is None:
        upto = await (head(connection) if at is None else position_at(connection, at))
    asked = _snapshot_of(projection, stream, correlation_id, upto)
    snapshot = await run(connection, _SNAPSHOT, asked, _first) if asked else None
    state, events = _begin(connection, projection, snapshot, stream, correlation_id, upto)
    fold = cast("Callable[..., Any]", projection.fold)
    async for event in events:
        state = fold(state, event)
    return state


def _snapshot_of(
    projection: ProjectionDefinition, stream: str | None, correlation_id: str | None, upto: int
) -> dict[str, Any] | None:
    """What to ask for a snapshot with; None where there can be none."""
    if projection.snapshots is None or stream is None or correlation_id is not None:
        return None
    return {"schema": projection.schema, "made_by": projection.version, "stream": stream, "upto": upto}


def _begin(
    connection: Any,
    projection: ProjectionDefinition,
    snapshot: tuple[Any, ...] | None,
    stream: str | None,
    correlation_id: str | None,
    upto: int,
) -> tuple[Any, Any]:
    """The state to begin with, and the events that follow."""
    types = list(projection.types)
    if snapshot is None or stream is None:
        # It is the caller who knows which kind of connection it is, and so how the events are iterated.
        events = cast("Any", read)(
            connection, types=types, stream=stream, correlation_id=correlation_id, upto=upto
        )
        return state_from(projection, None), events
    version, position, next_version, text = snapshot
    events = read_part(
        connection, stream, after=position, upto=upto, after_version=version, upto_version=next_version, types=types
    )  # fmt: skip
    return state_from(projection, text), events


def _first(rows: Rows) -> Any:
    return rows[0] if rows else None
