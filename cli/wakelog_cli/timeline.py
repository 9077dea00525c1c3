"""`wakelog timeline`: a workflow as a tree, what led to what and who did which part of it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from rich_click import command

from wakelog_cli.database import connected, rows, sequence_if_allowed, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import clock_time, in_words
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import console, counted, say_json, shortened, show, to_json

if TYPE_CHECKING:
    from rich.tree import Tree

Row = dict[str, Any]


@command()
@click.argument("workflow", metavar="CORRELATION|EVENT_ID")
@database_option
@json_option
def timeline(workflow: str, database: str | None, as_json: bool) -> None:
    """Show a workflow as a tree: its events, what each agent did about them, and what came of that.

    The workflow is named by its correlation, or by the id of any of its events.

    Example: wakelog timeline 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10
    """
    with connected(database) as connection:
        sequence_if_allowed(connection)
        correlation = _correlation_of(workflow, connection)
        found = rows(
            connection,
            """select t.at, t.what, t.name, t.outcome, t.attempts, t.took, t.worker, w.name as worker_name,
                      t.position, t.event_id, t.causation_id, t.detail, e.source
               from wakelog.timeline t
               join wakelog.log l on l.position = t.position
               join wakelog.events e on e.seq = l.seq
               left join wakelog.worker_sessions w on w.id = t.worker
               where t.correlation_id = %(correlation)s
               order by t.at, t.position, t.what desc""",
            {"correlation": correlation},
        )
    if not found:
        raise Failure(
            f"there is no event of the workflow {workflow}",
            ExitCode.UNKNOWN_NAME,
            next_command="find one: wakelog tail --json",
        )
    if as_json:
        say_json({"correlation_id": correlation, "timeline": found})
    else:
        show(_tree(correlation, found))


def _correlation_of(workflow: str, connection: Any) -> str:
    try:
        event_id = UUID(workflow)
    except ValueError:
        return workflow
    of_event = value(
        connection,
        "select coalesce(correlation_id, id::text) from wakelog.events where id = %(id)s",
        {"id": event_id},
    )
    return of_event or workflow


def _tree(correlation: str, found: list[Row]) -> "Tree":
    """Events under what caused them; an agent's deliveries under the event, and under those what it answered with."""
    from rich.tree import Tree

    events = [row for row in found if row["what"] == "event"]
    ids = {event["event_id"] for event in events}
    # A loop in the causes, which nothing forbids, hangs under no root: so we say what we have drawn.
    drawn: set[UUID] = set()
    began: datetime = events[0]["at"]
    tree = Tree(_plain(f"workflow {correlation}"))

    def draw(event: Row, at: "Tree") -> None:
        drawn.add(event["event_id"])
        here = at.add(_plain(_event_line(event, began)))
        caused = [e for e in events if e["causation_id"] == event["event_id"] and e["event_id"] not in drawn]
        deliveries = [d for d in found if d["what"] == "delivery" and d["event_id"] == event["event_id"]]
        for delivery in deliveries:
            there = here.add(_plain(_delivery_line(delivery)))
            for error in _errors(delivery):
                there.add(_plain(error))
            # What an agent delivered twice (rewound) answered with is shown under the first.
            for answer in [
                e for e in caused if e["source"] == delivery["name"] and e["event_id"] not in drawn
            ]:
                draw(answer, there)
        for other in caused:
            if other["event_id"] not in drawn:
                draw(other, here)

    for event in events:
        if event["causation_id"] not in ids and event["event_id"] not in drawn:
            draw(event, tree)
    for event in events:
        if event["event_id"] not in drawn:
            draw(event, tree)
    return tree


def _event_line(event: Row, began: datetime) -> str:
    after = event["at"] - began
    when = clock_time(event["at"]) if not after else f"+{in_words(after)}"
    payload = "" if event["detail"] == {} else "  " + shortened(to_json(event["detail"]), 60)
    by = f" [{event['source']}]" if event["source"] else ""
    return f"{event['name']}{by}  {when}  at {event['position']}{payload}"


def _delivery_line(delivery: Row) -> str:
    attempts = delivery["attempts"]
    tries = counted(attempts, "attempt")
    worker = delivery["worker_name"] or (f"worker {delivery['worker']}" if delivery["worker"] else "")
    parts = [delivery["outcome"], in_words(delivery["took"]), tries, worker]
    return f"→ {delivery['name']}: {', '.join(part for part in parts if part)}"


def _errors(delivery: Row) -> list[str]:
    width = max(console().width - 40, 40)
    failures: list[Row] = delivery["detail"] or []
    return [
        shortened(f"attempt {f.get('attempt')} {f.get('reason')}: {f.get('error') or ''}", width)
        for f in failures
    ]


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
