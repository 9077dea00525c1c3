"""What the demo reads from the database: how far each push is, what became of it, and who took over from whom."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import rows, value
from wakelog_cli.demo_repository import Commit

if TYPE_CHECKING:
    from psycopg import Connection

CHECKS = ("tests", "lint", "security")
AGENTS = (*CHECKS, "status")


@dataclass(frozen=True, slots=True)
class Push:
    """One push of the demo: the event that tells it, and the commit it tells of."""

    event_id: str
    commit: Commit


@dataclass(frozen=True, slots=True)
class Working:
    """A delivery of a check that is with a worker, or waits for one."""

    push: str
    check: str
    position: int
    attempt: int
    state: str
    worker: int | None
    worker_name: str | None
    batches: int | None
    batches_done: int
    files: int | None
    files_done: int | None


@dataclass(slots=True)
class Progress:
    """How far all pushes are, kept up to date by `look`."""

    pushes: list[Push]
    read_up_to: int = 0
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    working: dict[tuple[str, str], Working] = field(default_factory=dict[tuple[str, str], Working])
    workers: dict[int, str] = field(default_factory=dict[int, str])
    killed: int | None = None

    @property
    def ids(self) -> list[str]:
        return [push.event_id for push in self.pushes]

    def outcome(self, push: str, check: str) -> dict[str, Any] | None:
        """What a check came to: the payload of its event, with the time; None while it is at it."""
        return next(
            (e for e in self.events if e["correlation_id"] == push and e["type"].split(".")[0] == check), None
        )

    def statuses(self, push: str) -> list[dict[str, Any]]:
        """The statuses posted for a push: one, when all is well."""
        return [e for e in self.events if e["correlation_id"] == push and e["type"] == "ci.status"]

    @property
    def finished(self) -> bool:
        """Whether each push has its status and nothing is under way any more."""
        return all(self.statuses(push) for push in self.ids) and not self.working


def look(connection: "Connection[Any]", progress: Progress) -> list[dict[str, Any]]:
    """Bring `progress` up to date; return the events that are new."""
    # First what is under way: what ends between the two looks is then in the second, never in neither.
    working = rows(
        connection,
        """
        select f.correlation_id, f.agent, f.position, f.attempt, f.state, f.worker, f.worker_name,
               p.result as plan,
               (select count(*) from wakelog.steps s
                where s.agent_id = a.id and s.position = f.position and starts_with(s.name, 'batch ')) as batches_done
        from wakelog.in_flight f
        join wakelog.agents a on a.name = f.agent
        left join wakelog.steps p on p.agent_id = a.id and p.position = f.position and p.name = 'plan'
        where f.correlation_id = any (%(pushes)s)
        """,
        {"pushes": progress.ids},
    )
    progress.working = {(w["correlation_id"], w["agent"]): _working(w) for w in working}
    for found in rows(connection, "select worker, name from wakelog.workers"):
        progress.workers[found["worker"]] = found["name"]
    new = rows(
        connection,
        """
        select position, id::text, type, source, payload, correlation_id, causation_id::text, sequenced_at
        from wakelog.log_events
        where correlation_id = any (%(pushes)s) and position > %(after)s
        order by position
        """,
        {"pushes": progress.ids, "after": progress.read_up_to},
    )
    if new:
        progress.read_up_to = new[-1]["position"]
        progress.events += new
    return new


def _working(row: dict[str, Any]) -> Working:
    plan: Sequence[Sequence[str]] | None = row["plan"]
    done: int = row["batches_done"]
    return Working(
        push=row["correlation_id"],
        check=row["agent"],
        position=row["position"],
        attempt=row["attempt"],
        state=row["state"],
        worker=row["worker"],
        worker_name=row["worker_name"],
        batches=None if plan is None else len(plan),
        batches_done=done,
        files=None if plan is None else sum(map(len, plan)),
        files_done=None if plan is None else sum(map(len, plan[:done])),
    )


def living_workers(connection: "Connection[Any]") -> list[str]:
    """The names of the workers, of whomever, that serve agents of the pipeline."""
    found = rows(
        connection,
        "select name from wakelog.workers where alive and agents && %(agents)s::text[] order by worker",
        {"agents": list(AGENTS)},
    )
    return [row["name"] for row in found]


def database_time(connection: "Connection[Any]") -> datetime:
    """The time as the database has it."""
    return value(connection, "select wakelog.clock()")


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A delivery whose worker was killed, and the worker that went on with it."""

    attempts: int
    worker: int
    after: timedelta
    """From the kill to the moment the other had it."""


def take_over(
    connection: "Connection[Any]", position: int, victim: int, killed_at: datetime
) -> TakeOver | None:
    """Who took over the security scan at a position; None while nobody has."""
    found = rows(
        connection,
        """
        with tried as (
            select d.agent_id, d.attempt, d.worker, d.claimed_at, d.position from wakelog.deliveries d
            where d.worker is not null
            union all
            select h.agent_id, h.attempts, h.worker, h.started_at, h.position from wakelog.history h
            where h.outcome = 'completed'
        )
        select t.attempt, t.worker, t.claimed_at from tried t
        join wakelog.agents a on a.id = t.agent_id
        where a.name = 'security' and t.position = %(position)s and t.worker <> %(victim)s
        """,
        {"position": position, "victim": victim},
    )
    if not found:
        return None
    return TakeOver(found[0]["attempt"], found[0]["worker"], found[0]["claimed_at"] - killed_at)


def results_recorded(connection: "Connection[Any]", push: str) -> int:
    """How many outcomes of a push the pipeline has written down."""
    return value(connection, "select count(*) from ci.results where workflow = %(push)s", {"push": push})


def timeline(connection: "Connection[Any]", push: str) -> list[dict[str, Any]]:
    """Everything of one push, oldest first, as the view wakelog.timeline tells it."""
    return rows(
        connection,
        """
        select at, what, name, outcome, attempts, took, worker, position, event_id::text, causation_id::text, detail
        from wakelog.timeline where correlation_id = %(push)s order by at, position, what desc
        """,
        {"push": push},
    )
