"""`wakelog workflow`: which workflows there are, what one is or was at, and beginning it anew from there."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from rich_click import group

from wakelog_cli.database import connected, correlation_of, rows, sequence_if_allowed
from wakelog_cli.moments import Moment, clock_time, in_words
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, say, say_json, shortened, show, table, to_json
from wakelog_cli.rehearse import rehearse
from wakelog_cli.settings import Setting, WorkflowPoint
from wakelog_cli.tree import tree

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.workflows import WorkflowEvent, WorkflowState


@group()
def workflow() -> None:
    """See workflows, as they are and as they were; begin one anew from a point in its past; rehearse new code on them.

    A workflow is all events of one correlation.

    Example: wakelog workflow list
    """


workflow.add_command(rehearse)


@workflow.command("list")
@click.option(
    "--since", type=Moment(), metavar="TIME", help="With an event since then: 2h, 7d, 2026-11-27T14:30."
)
@click.option(
    "--type", "type_", metavar="PATTERN", help="With an event of such a type: * is one word, # any number."
)
@click.option(
    "--state", type=click.Choice(["running", "waiting", "failed", "done"]), help="In this state only."
)
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10**6), default=50, show_default=True, help="At most so many."
)
@database_option
@json_option
def list_(
    since: datetime | None, type_: str | None, state: Any, limit: int, database: str | None, as_json: bool
) -> None:
    """List workflows, the latest first, and how each stands.

    The log is read from its end backwards until there are enough; with --state running, waiting or failed, only what
    is unfinished is looked at.

    Examples:

        wakelog workflow list --since 2h

        wakelog workflow list --state failed --type order.#
    """
    from dataclasses import asdict

    from wakelog.workflows import workflows

    with connected(database) as connection:
        sequence_if_allowed(connection)
        found = workflows(connection, since=since, type=type_, state=state, limit=limit)
    if as_json:
        say_json([asdict(one) for one in found])
        return
    table(
        {
            "workflow": "left", "state": "left", "began": "left", "first": "left", "last": "left", "events": "right",
            "in flight": "right", "dead": "right", "took": "right",
        },
        (
            (
                one.correlation_id, one.state, clock_time(one.began_at), one.first_type, one.last_type, one.events,
                one.running + one.waiting, one.dead, in_words(one.duration),
            )
            for one in found
        ),
        empty="There are no such workflows. What is in the log: wakelog tail",
    )  # fmt: skip


@workflow.command("show")
@click.argument("workflow", metavar="CORRELATION|EVENT_ID")
@database_option
@json_option
def show_(workflow: str, database: str | None, as_json: bool) -> None:
    """Show a workflow as a tree of causes: events, who worked on them for how long, attempts and steps.

    It is named by its correlation, or by the id of any of its events. Of a fork, the past that it shares is shown too.

    Example: wakelog workflow show 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10
    """
    _shown(workflow, None, None, database, as_json)


@workflow.command()
@click.argument("workflow", metavar="CORRELATION|EVENT_ID")
@click.option("--at", "moment", type=Moment(), metavar="TIME", help="At this moment, or so long ago.")
@click.option("--position", type=click.IntRange(min=1), help="When the log had reached this position.")
@database_option
@json_option
def at(
    workflow: str, moment: datetime | None, position: int | None, database: str | None, as_json: bool
) -> None:
    """Show a workflow as it was: which events there were, and how far each agent was with them.

    Examples:

        wakelog workflow at 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10 --position 812

        wakelog workflow at 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10 --at 2026-11-27T14:30 --json
    """
    if (moment is None) == (position is None):
        found = "neither" if moment is None else "both"
        raise click.UsageError(f"expected either --at or --position, found {found}")
    _shown(workflow, moment, position, database, as_json)


@workflow.command()
@click.argument("workflow", metavar="CORRELATION|EVENT_ID")
@click.option(
    "--from",
    "point",
    type=WorkflowPoint(),
    required=True,
    metavar="EVENT|POSITION|TIME",
    help="Where to begin anew: the id of an event, its position, or a moment.",
)
@click.option(
    "--set",
    "settings",
    type=Setting(),
    multiple=True,
    metavar="PATH=VALUE",
    help="What is to be otherwise in the payload of the event at the point; the value is JSON, or else text.",
)
@click.option(
    "--agents", metavar="A,B", help="Deliver to these alone; without it, to all that want it today."
)
@database_option
@json_option
def fork(
    workflow: str,
    point: UUID | int | datetime,
    settings: Sequence[tuple[str, Any]],
    agents: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Begin a workflow anew from a point in its past, as a new one. Nothing of the old one changes.

    What lies before the point is shared: it is neither copied nor done again. The event at the point is delivered
    anew, and what was open at that moment. Agents answer it for real.

    Examples:

        wakelog workflow fork 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10 --from 812 --set amount=5

        wakelog workflow fork 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10 --from 10m --agents mailer,invoices
    """
    from wakelog.workflows import fork

    with connected(database) as connection:
        sequence_if_allowed(connection)
        parent = correlation_of(connection, workflow)
        made = fork(
            connection,
            parent,
            event=point if isinstance(point, UUID) else None,
            position=point if isinstance(point, int) else None,
            at=point if isinstance(point, datetime) else None,
            changes=dict(settings),
            agents=None if agents is None else [name.strip() for name in agents.split(",")],
        )
        sequence_if_allowed(connection)
        (origin,) = _lineage(connection, made)
        copies = rows(
            connection,
            """select e.id, e.type, o.id as original, c.agents
               from wakelog.copies c
               join wakelog.events e on e.seq = c.seq
               join wakelog.events o on o.seq = c.original_seq
               where c.correlation_id = %(fork)s order by c.seq""",
            {"fork": made},
        )
    if as_json:
        say_json({"correlation_id": made, "parent": parent, **_told(origin), "delivered": copies})
        return
    say(made)
    for copy in copies:
        to = ", ".join(copy["agents"]) if copy["agents"] is not None else "whoever wants it"
        say(f"  {copy['type']} anew, to {to}")
    say(f"Watch it: wakelog workflow show {made}")


def _shown(
    workflow: str, moment: datetime | None, position: int | None, database: str | None, as_json: bool
) -> None:
    from wakelog.workflows import workflow_at

    with connected(database) as connection:
        sequence_if_allowed(connection)
        correlation = correlation_of(connection, workflow)
        state = workflow_at(connection, correlation, position=position, at=moment)
        lineage = _lineage(connection, correlation)
    if as_json:
        say_json(_document(state, lineage))
        return
    when = ""
    if position is not None:
        when = f" when the log had reached position {position}"
    elif moment is not None:
        when = f" at {clock_time(moment)}"
    show(tree(f"workflow {correlation}{when}", _rows(state)))
    say(_in_short(state))
    for line in lineage:
        changed = f", with {shortened(to_json(line['changes']), 60)}" if line["changes"] else ""
        say(f"{line['relation']} {line['other']} at position {line['position']}{changed}")


def _lineage(connection: "Connection[Any]", correlation: str) -> list[dict[str, Any]]:
    return rows(
        connection,
        """select relation, other, position, as_of, changes, agents, forked_at, forked_by from wakelog.lineage
           where correlation_id = %(correlation)s order by forked_at""",
        {"correlation": correlation},
    )


def _told(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("position", "as_of", "changes", "agents", "forked_at", "forked_by")}


def _document(state: "WorkflowState", lineage: list[dict[str, Any]]) -> dict[str, Any]:
    from dataclasses import asdict

    parents = [line for line in lineage if line["relation"] == "forked from"]
    return {
        **asdict(state),
        "forked_from": {"parent": parents[0]["other"], **_told(parents[0])} if parents else None,
        "forks": [
            {"correlation_id": line["other"], **_told(line)}
            for line in lineage
            if line["relation"] == "forked as"
        ],
    }


def _rows(state: "WorkflowState") -> list[dict[str, Any]]:
    """As the tree draws them."""
    found: list[dict[str, Any]] = []
    now = state.at or (state.events[-1].entered_at if state.position is not None else datetime.now(UTC))
    for event in state.events:
        found.append({
            "what": "event", "event_id": event.id, "name": event.type, "source": event.source, "at": event.entered_at,
            "position": event.position, "causation_id": event.cause, "detail": event.payload, "note": _note(event),
        })  # fmt: skip
        found += [
            {
                "what": "delivery", "event_id": event.id, "name": work.agent, "attempts": work.attempts,
                "outcome": work.state if work.outcome in (None, "completed") else f"{work.state} ({work.outcome})",
                "took": _took(work.started_at, work.ended_at or (now if work.state == "running" else None)),
                "worker": work.worker, "worker_name": work.worker_name, "steps": work.steps,
                "detail": work.failures,
            }
            for work in event.work
        ]  # fmt: skip
    return found


def _took(began: datetime | None, ended: datetime | None) -> timedelta | None:
    return ended - began if began is not None and ended is not None else None


def _note(event: "WorkflowEvent") -> str | None:
    if event.shared:
        return "shared"
    return f"stands for {event.original}" if event.original is not None else None


def _in_short(state: "WorkflowState") -> str:
    works = [work.state for event in state.events for work in event.work]
    counts = [(works.count(one), one) for one in ("finished", "running", "waiting", "failed")]
    took = in_words(state.events[-1].entered_at - state.events[0].entered_at)
    parts = [
        counted(len(state.events), "event"),
        *(f"{count:,} {one}" for count, one in counts if count),
        took,
    ]
    return ", ".join(parts)
