"""Which workflows there are, and how each stands."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, overload

from wakelog.errors import BadInput
from wakelog.log.connections import Rows, Statement, run

if TYPE_CHECKING:
    from wakelog.log.connections import AsyncConnection, SyncConnection

State = Literal["running", "waiting", "failed", "done"]

_COLUMNS = (
    "correlation_id", "state", "events", "first_position", "first_type", "began_at", "last_position", "last_type",
    "last_at", "duration", "running", "waiting", "dead", "parent",
)  # fmt: skip

_WORKFLOWS = Statement(
    """
    select w.correlation_id, w.state, w.events, w.first_position, w.first_type, w.began_at, w.last_position,
           w.last_type, w.last_at, w.duration, w.running, w.waiting, w.dead, w.parent
    from wakelog.workflows(
        cast(cast(%(since)s as text) as timestamptz), cast(%(type)s as text), cast(%(state)s as text),
        cast(%(limit)s as bigint), cast(%(below)s as bigint)) w
    """,
    _COLUMNS,
    prepare=False,
)


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """How a workflow stands.

    `state` is "running" while something of it is with a worker, "waiting" while something is still to be done, else
    "failed" where there are dead letters, else "done". `running`, `waiting` and `dead` count deliveries. `parent` is
    the workflow it was forked from.
    """

    correlation_id: str
    state: State
    events: int
    first_position: int
    first_type: str
    began_at: datetime
    last_position: int
    last_type: str
    last_at: datetime
    duration: timedelta
    running: int
    waiting: int
    dead: int
    parent: str | None


@overload
def workflows(
    connection: "SyncConnection",
    *,
    since: datetime | None = None,
    type: str | None = None,
    state: State | None = None,
    limit: int = 100,
    below: int | None = None,
) -> list[WorkflowSummary]: ...
@overload
def workflows(
    connection: "AsyncConnection",
    *,
    since: datetime | None = None,
    type: str | None = None,
    state: State | None = None,
    limit: int = 100,
    below: int | None = None,
) -> Awaitable[list[WorkflowSummary]]: ...
def workflows(
    connection: "SyncConnection | AsyncConnection",
    *,
    since: datetime | None = None,
    type: str | None = None,  # noqa: A002 - the field's name
    state: State | None = None,
    limit: int = 100,
    below: int | None = None,
) -> "list[WorkflowSummary] | Awaitable[list[WorkflowSummary]]":
    """Workflows, the latest first, `limit` at most.

    Those with an event since `since`, with one whose type matches the pattern `type`, in `state`. `below` goes on where
    another list ended: the `last_position` of its last. The log is read from its end backwards until there are enough;
    for a state other than "done", only what is unfinished is.

    Raises `BadInput` for a time without a zone and an unknown state.
    """
    if since is not None and since.tzinfo is None:
        raise BadInput(f"expected a time with a zone, found {since.isoformat()}")
    parameters = {
        "since": since and since.isoformat(), "type": type, "state": state, "limit": limit, "below": below,
    }  # fmt: skip
    return run(connection, _WORKFLOWS, parameters, _summaries)


def _summaries(rows: Rows) -> list[WorkflowSummary]:
    return [WorkflowSummary(*row) for row in rows]
