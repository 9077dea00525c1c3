"""What agents did with the events of a workflow, as the log and the history have it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wakelog.log.connections import Rows, Statement, converse
from wakelog.log.event import COLUMNS, Event
from wakelog.log.private import answers_shown, shown, unveiled

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import psycopg

_OF_WORK = ("agent", "attempts", "failed", "error", "answers", "steps")

_RECORDED = Statement(
    """
    select w.agent, w.attempts, w.failed, w.error, w.answers, w.steps, w.position, w.id, w.type, w.source, w.stream,
           w.version, w.payload, w.metadata, w.correlation_id, w.causation_id, w.idempotency_key, w.schema_version,
           w.occurred_at, w.recorded_at
    from wakelog.recorded_work(%(correlation_id)s, %(agents)s) w
    """,
    (*_OF_WORK, *COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One delivery that came to its end, in `attempts`; `error` is why it was given up, where it was."""

    agent: str
    attempts: int
    failed: bool
    error: str | None
    answers: list[dict[str, Any]]
    steps: dict[str, Any]
    event: Event


def recorded_work(
    connection: "psycopg.Connection[Any]", correlation_id: str, agents: "Sequence[str]"
) -> list[Recorded]:
    """What these agents finished, or gave up after trying, of a workflow; in the order of the log.

    What is private in it is as this session may see it.
    """
    return converse(connection, _recorded(correlation_id, agents))


def _recorded(
    correlation_id: str, agents: "Sequence[str]"
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Recorded]]":
    width = len(_OF_WORK)
    rows: Rows = yield _RECORDED, {"correlation_id": correlation_id, "agents": list(agents)}
    events = yield from shown(Event.from_row(row[width:]) for row in rows)
    found: list[Recorded] = []
    for row, event in zip(rows, events, strict=True):
        agent, attempts, failed, error, answers, steps = row[:width]
        answers = yield from answers_shown(unveiled(answers))
        found.append(Recorded(agent, attempts, failed, error, answers, unveiled(steps), event))
    return found
