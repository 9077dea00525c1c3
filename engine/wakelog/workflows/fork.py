"""A workflow begun anew from a point in its past."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload
from uuid import UUID

from wakelog.errors import BadInput
from wakelog.log.connections import Rows, Statement, run
from wakelog.log.values import json_text

if TYPE_CHECKING:
    from wakelog.log.connections import AsyncConnection, SyncConnection

_FORK = Statement(
    """
    select wakelog.fork_workflow(
        cast(%(correlation_id)s as text), cast(cast(%(event)s as text) as uuid), cast(%(position)s as bigint),
        cast(cast(%(at)s as text) as timestamptz), cast(cast(%(changes)s as text) as jsonb),
        array(select jsonb_array_elements_text(cast(cast(%(agents)s as text) as jsonb)))) as correlation_id
    """,
    ("correlation_id",),
)
_FORK_FOR_ALL = Statement(
    """
    select wakelog.fork_workflow(
        cast(%(correlation_id)s as text), cast(cast(%(event)s as text) as uuid), cast(%(position)s as bigint),
        cast(cast(%(at)s as text) as timestamptz), cast(cast(%(changes)s as text) as jsonb)) as correlation_id
    """,
    ("correlation_id",),
)


@overload
def fork(
    connection: "SyncConnection",
    correlation_id: str,
    *,
    event: UUID | str | None = None,
    position: int | None = None,
    at: datetime | None = None,
    changes: Mapping[str, Any] | None = None,
    agents: Sequence[str] | None = None,
) -> str: ...
@overload
def fork(
    connection: "AsyncConnection",
    correlation_id: str,
    *,
    event: UUID | str | None = None,
    position: int | None = None,
    at: datetime | None = None,
    changes: Mapping[str, Any] | None = None,
    agents: Sequence[str] | None = None,
) -> Awaitable[str]: ...
def fork(
    connection: "SyncConnection | AsyncConnection",
    correlation_id: str,
    *,
    event: UUID | str | None = None,
    position: int | None = None,
    at: datetime | None = None,
    changes: Mapping[str, Any] | None = None,
    agents: Sequence[str] | None = None,
) -> str | Awaitable[str]:
    """Begin a workflow anew from a point in its past, in the caller's transaction; return the new correlation.

    Nothing of the old one changes. Both share what lies before the point: it is neither copied nor done again. The
    event at the point is delivered to every agent that wants it today, with `changes` in its payload
    (``{"customer.name": "Ada"}``); what was open at the point, to the agents that had not finished it.

    Args:
        connection: psycopg's or SQLAlchemy's; awaited over one for asyncio.
        correlation_id: the workflow to fork.
        event: the event to fork from, by its id; one of `event`, `position` and `at` is given.
        position: the same, by its position; where the workflow has none there, the moment the log reached it.
        at: a moment: only what was open then is delivered.
        changes: by path, what is to be otherwise in the payload of the event at the point.
        agents: deliver to these alone.

    Raises:
        UnknownWorkflow: there is no such workflow.
        NothingToFork: nothing would be delivered, or the event to be changed had been finished.
        UnknownAgent: an agent of that name is not registered.
        BadInput: a value cannot be used.
    """
    if at is not None and at.tzinfo is None:
        raise BadInput(f"expected a time with a zone, found {at.isoformat()}")
    parameters = {
        "correlation_id": correlation_id,
        "event": event and str(event),
        "position": position,
        "at": at and at.isoformat(),
        "changes": json_text("changes", dict(changes or {})),
    }
    if agents is None:
        return run(connection, _FORK_FOR_ALL, parameters, _correlation)
    return run(connection, _FORK, {**parameters, "agents": json_text("agents", list(agents))}, _correlation)


def _correlation(rows: Rows) -> str:
    return rows[0][0]
