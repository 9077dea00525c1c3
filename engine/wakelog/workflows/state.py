"""What a workflow is at, or was at a position or a moment: its events, and how far each agent was with them."""

from collections.abc import Awaitable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload
from uuid import UUID

from wakelog.errors import BadInput, UnknownWorkflow
from wakelog.log.connections import Rows, Statement, converse
from wakelog.log.private import payloads_shown, unveiled

if TYPE_CHECKING:
    from wakelog.log.connections import AsyncConnection, SyncConnection

_OF_EVENT = (
    "position", "id", "type", "source", "payload", "correlation_id", "causation_id", "cause", "original", "shared",
    "entered_at",
)  # fmt: skip
_OF_WORK = (
    "agent", "state", "outcome", "attempts", "worker", "worker_name", "started_at", "ended_at", "error", "failures",
    "steps",
)  # fmt: skip

_WORKFLOW_AT = Statement(
    """
    select w.position, w.event_id, w.type, w.source, w.payload, w.correlation_id, w.causation_id, w.cause, w.original,
           w.shared, w.entered_at, w.agent, w.state, w.outcome, w.attempts, w.worker, s.name, w.started_at, w.ended_at,
           w.error, w.failures, w.steps
    from wakelog.workflow_at(
        cast(%(correlation_id)s as text), cast(%(position)s as bigint), cast(cast(%(at)s as text) as timestamptz)) w
    left join wakelog.worker_sessions s on s.id = w.worker
    order by w.position, w.agent
    """,
    (*_OF_EVENT, *_OF_WORK),
    prepare=False,
)


@dataclass(frozen=True, slots=True)
class Work:
    """What an agent was at with one event.

    `state`: "waiting" for its first try or its next one, "running", "finished" or "failed" (given up). `attempts`
    counts tries that had begun. `steps` are those that had finished, in their order.
    """

    agent: str
    state: Literal["waiting", "running", "finished", "failed"]
    outcome: str | None
    attempts: int
    worker: int | None
    worker_name: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    failures: list[dict[str, Any]] | None
    steps: list[str]


@dataclass(frozen=True, slots=True)
class WorkflowEvent:
    """An event of a workflow, and what agents were at with it.

    `cause` is the event of this workflow that led to it. `shared` says that it is of the past that a fork shares with
    the workflow it came from; `original`, which event of that one it stands for.
    """

    position: int
    id: UUID
    type: str
    source: str
    payload: Any
    correlation_id: str
    causation_id: UUID | None
    cause: UUID | None
    original: UUID | None
    shared: bool
    entered_at: datetime
    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class WorkflowState:
    """A workflow as it is, or as it was when the log had reached `position`, or at the moment `at`."""

    correlation_id: str
    position: int | None
    at: datetime | None
    events: tuple[WorkflowEvent, ...]


@overload
def workflow_at(
    connection: "SyncConnection",
    correlation_id: str,
    *,
    position: int | None = None,
    at: datetime | None = None,
) -> WorkflowState: ...
@overload
def workflow_at(
    connection: "AsyncConnection",
    correlation_id: str,
    *,
    position: int | None = None,
    at: datetime | None = None,
) -> Awaitable[WorkflowState]: ...
def workflow_at(
    connection: "SyncConnection | AsyncConnection",
    correlation_id: str,
    *,
    position: int | None = None,
    at: datetime | None = None,
) -> WorkflowState | Awaitable[WorkflowState]:
    """A workflow as it was when the log had reached a position, or at a moment; without either, as it is.

    What is private in it is as this session may see it.

    Raises:
        UnknownWorkflow: there was no event of it.
        BadInput: both were given, the position is not in the log, or the time has no zone.
    """
    if at is not None and at.tzinfo is None:
        raise BadInput(f"expected a time with a zone, found {at.isoformat()}")

    def asking() -> Generator[tuple[Statement, dict[str, Any]], Rows, WorkflowState]:
        rows = yield _WORKFLOW_AT, parameters
        if not rows:
            when = (
                f" at position {position}" if position is not None else f" at {at.isoformat()}" if at else ""
            )
            raise UnknownWorkflow(
                f'there is no event of the workflow "{correlation_id}"{when}',
                hint="See: wakelog workflow list",
            )
        events = _events(rows)
        payloads = yield from payloads_shown(connection, ((event.id, event.payload) for event in events))
        shown = (replace(event, payload=payload) for event, payload in zip(events, payloads, strict=True))
        return WorkflowState(correlation_id, position, at, tuple(shown))

    parameters = {"correlation_id": correlation_id, "position": position, "at": at and at.isoformat()}
    return converse(connection, asking())


def _events(rows: Rows) -> tuple[WorkflowEvent, ...]:
    of: dict[int, tuple[Sequence[Any], list[Work]]] = {}
    width = len(_OF_EVENT)
    for row in rows:
        _, work = of.setdefault(row[0], (row[:width], []))
        if row[width] is not None:
            work.append(Work(*map(unveiled, row[width:])))
    return tuple(WorkflowEvent(*event, work=tuple(work)) for event, work in of.values())
