"""`wakelog timeline`: a workflow as a tree, what led to what and who did which part of it."""

import click
from rich_click import command

from wakelog_cli.database import connected, correlation_of, rows, sequence_if_allowed
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import say_json, show
from wakelog_cli.tree import tree


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
        correlation = correlation_of(connection, workflow)
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
        show(tree(f"workflow {correlation}", found))
