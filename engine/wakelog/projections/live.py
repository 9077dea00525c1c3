"""State that is folded when somebody asks for it, and stored nowhere."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast, overload

from wakelog.errors import BadInput
from wakelog.log.connections import is_async
from wakelog.log.read import read
from wakelog.projections.definition import ProjectionDefinition

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wakelog.log.connections import AsyncConnection, SyncConnection
    from wakelog.log.event import Event


@overload
def fold(
    connection: "SyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
) -> Any: ...
@overload
def fold(
    connection: "AsyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
) -> "Awaitable[Any]": ...
def fold(
    connection: "SyncConnection | AsyncConnection",
    projection: ProjectionDefinition,
    *,
    stream: str | None = None,
    correlation_id: str | None = None,
    upto: int | None = None,
) -> Any:
    """The state of a projection declared with ``mode="live"``, folded now, from the beginning of the log.

    Of one ``stream`` or one ``correlation_id``, where either is given; as of the position ``upto``, or else of what has
    a position now. What its function raises is raised here.

    Raises BadInput where the projection is not a live one.
    """
    if projection.mode != "live" or projection.fold is None or projection.initial is None:
        raise BadInput(
            f'projection "{projection.name}": expected one declared with mode="live", found mode="{projection.mode}"',
            hint="Its state is in its tables; read them.",
        )
    options: dict[str, Any] = {
        "types": list(projection.types), "stream": stream, "correlation_id": correlation_id, "upto": upto,
    }  # fmt: skip
    if is_async(connection):
        return _fold_async(projection.fold, projection.initial(), read(cast("Any", connection), **options))
    state = projection.initial()
    events = cast("Iterable[Event]", read(cast("Any", connection), **options))
    for event in events:
        state = projection.fold(state, event)
    return state


async def _fold_async(fold: Callable[..., Any], state: Any, events: Any) -> Any:
    async for event in events:
        state = fold(state, event)
    return state
