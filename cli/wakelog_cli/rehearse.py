"""`wakelog workflow rehearse`: recorded workflows through other code, and what would have been different."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.database import connected, correlation_of, find_url
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Moment, in_words
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, say, say_json, shortened, to_json
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from wakelog.workflows import Difference, RehearsedWorkflow

# Workflows asked for at a time.
_PAGE = 500


@command()
@click.argument("workflows", metavar="[CORRELATION|EVENT_ID]...", nargs=-1)
@click.option(
    "--app", required=True, metavar="MODULE:APP|FILE.py", help="The application with the code to rehearse."
)
@click.option("--agents", metavar="A,B", help="Of these agents alone; without it, of all of the application.")
@click.option("--since", type=Moment(), metavar="TIME", help="Workflows with an event since then: 7d.")
@click.option("--type", "type_", metavar="PATTERN", help="Workflows with an event of such a type.")
@click.option("--limit", "-n", type=click.IntRange(1, 10**9), help="At most so many, the latest first.")
@click.option("--live-steps", is_flag=True, help="Do steps for real, instead of returning what was recorded.")
@click.option("--live-step", multiple=True, metavar="NAME", help="Do this step for real; may be repeated.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATH",
    help="Do not compare this place in payloads; * matches anything; may be repeated.",
)
@click.option(
    "--processes", type=click.IntRange(1, 512), default=1, show_default=True, help="So many at a time."
)
@database_option
@json_option
def rehearse(
    workflows: Sequence[str],
    app: str,
    agents: str | None,
    since: datetime | None,
    type_: str | None,
    limit: int | None,
    live_steps: bool,
    live_step: Sequence[str],
    ignore: Sequence[str],
    processes: int,
    database: str | None,
    as_json: bool,
) -> None:
    """Run recorded events through other code, with nothing written, and tell what would have been different.

    Exits with 0 where all came to the same, with 1 where something differs. Steps return what was recorded; what a
    handler writes through ctx.connection is rolled back; what it does otherwise, it does for real.

    Examples:

        wakelog workflow rehearse 0198c0de-5c0a-7b3e-9f43-2f6f2f6b1d10 --app new_version.py

        wakelog workflow rehearse --app new_version.py:app --agents triage --since 7d --processes 4 --json
    """
    from wakelog.workflows import Crew

    some = since is not None or type_ is not None or limit is not None
    if bool(workflows) == some:
        found = "both" if some else "neither"
        raise click.UsageError(
            f"expected workflows, or --since, --type or --limit to choose some, found {found}"
        )
    url = find_url(database)
    crew = Crew(
        app, url, processes,
        agents=None if agents is None else [name.strip() for name in agents.split(",")],
        every_step_live=live_steps, live_steps=live_step, ignore=ignore,
    )  # fmt: skip
    chosen = _named(url, workflows) if workflows else _chosen(url, since, type_, limit)
    tally = _Tally()
    try:
        with Progress("rehearsed", "workflows", len(workflows) or limit) as progress:
            for one in crew.rehearse(chosen):
                tally.add(one)
                if one.differs:
                    _tell(one, as_json)
                progress.advance(1, 1)
            tally.seconds = progress.seconds
    except KeyboardInterrupt:
        tally.say(as_json, interrupted=True)
        again = f"wakelog {shlex.join(click.get_current_context().find_root().obj)}"
        click.echo(f"wakelog: that was not all of them; again: {again}", err=True)
        raise
    if not tally.deliveries and not tally.differing:
        raise Failure(
            f"expected work of {agents or 'the application'} that was recorded, found none in {_many(tally.workflows)}",
            ExitCode.UNKNOWN_NAME,
            next_command="see who did what: wakelog workflow show",
        )
    tally.say(as_json)
    click.get_current_context().exit(ExitCode.FAILED if tally.differing else ExitCode.OK)


class _Tally:
    """How many of what there were."""

    def __init__(self) -> None:
        self.workflows = 0
        self.differing = 0
        self.deliveries = 0
        self.deliveries_differing = 0
        self.seconds = 0.0

    def add(self, one: "RehearsedWorkflow") -> None:
        self.workflows += 1
        self.differing += one.differs
        self.deliveries += len(one.rehearsed)
        self.deliveries_differing += sum(bool(each.differences) for each in one.rehearsed)

    def say(self, as_json: bool, *, interrupted: bool = False) -> None:
        same = self.workflows - self.differing
        if as_json:
            say_json({
                "summary": {
                    "workflows": self.workflows, "same": same, "differ": self.differing, "deliveries": self.deliveries,
                    "deliveries_differ": self.deliveries_differing, "interrupted": interrupted,
                }
            })  # fmt: skip
            return
        say(
            f"{_many(self.workflows)}, {self.deliveries:,} {'delivery' if self.deliveries == 1 else 'deliveries'}: "
            f"{same:,} the same, {self.differing:,} {'differs' if self.differing == 1 else 'differ'}"
        )


def _many(workflows: int) -> str:
    return counted(workflows, "workflow")


def _named(url: str, names: Sequence[str]) -> Iterator[str]:
    from wakelog.workflows import workflow_at

    with connected(url) as connection:
        correlations = [correlation_of(connection, name) for name in names]
        for correlation in correlations:
            workflow_at(connection, correlation)  # raises where there is none
    yield from dict.fromkeys(correlations)


def _chosen(url: str, since: datetime | None, type_: str | None, limit: int | None) -> Iterator[str]:
    from wakelog.workflows import workflows

    left, below = limit, None
    with connected(url) as connection:
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = workflows(connection, since=since, type=type_, limit=size, below=below)
            yield from (one.correlation_id for one in page)
            if len(page) < size:
                return
            below = page[-1].last_position
            left = left and left - size


def _tell(one: "RehearsedWorkflow", as_json: bool) -> None:
    if as_json:
        differing = [asdict(each) for each in one.rehearsed if each.differences]
        say_json({"workflow": one.workflow, "lost": one.lost, "rehearsed": differing})
        return
    say(one.workflow)
    if one.lost:
        say("  the process ended over it, and nothing can be said")
    for each in one.rehearsed:
        if each.differences:
            say(
                f"  {each.agent} at {each.position} ({each.type}), {in_words(timedelta(seconds=each.seconds))}"
            )
            for difference in each.differences:
                say(f"    {_in_words(difference)}")


def _in_words(difference: "Difference") -> str:
    was, now = difference.was, difference.would_be
    match difference.what:
        case "outcome" | "error":
            return f"{_short(was)} → {_short(now)}"
        case "step":
            return f"step {now!r} has no recording; do it for real with --live-step, or all with --live-steps"
        case "event":
            return f"no {was} any more" if now is None else f"also {now}"
        case _:
            place = f"{difference.what} {difference.path}" if difference.path else difference.what
            return f"{difference.answer} {place}: {_json(was)} → {_json(now)}"


def _short(text: Any) -> str:
    return shortened(str(text), 200)


def _json(value: Any) -> str:
    return shortened(to_json(value), 80)
