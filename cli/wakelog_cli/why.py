"""`wakelog projection why`: the events that made one row of state what it is, and what had caused them."""

from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.database import connected, find_url, sequence_if_allowed
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Place, Start, clock_time
from wakelog_cli.options import database_option, fold_app_option, json_option
from wakelog_cli.output import counted, say, say_json_with, shortened, to_json
from wakelog_cli.places import position_of
from wakelog_cli.progress import Progress
from wakelog_cli.rebuilding import definition_of

if TYPE_CHECKING:
    from wakelog.projections.provenance import Touch


@command()
@click.argument("name")
@click.argument("table")
@click.argument("key", nargs=-1, required=True, metavar="COLUMN=VALUE...")
@click.option("--position", type=click.IntRange(min=0), help="As it was at this position of the log.")
@click.option("--at", type=Place(), metavar="TIME", help="As it was then: a time, or how long ago (2h).")
@fold_app_option
@database_option
@json_option
def why(
    name: str, table: str, key: tuple[str, ...], position: int | None, at: Start | None, app: str | None,
    database: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show which events made a row of a projection what it is, in order, and what had caused each.

    The log is folded again aside, a few times over, with an eye on that row; nothing is left behind.

    Examples:

        wakelog projection why ci_runs runs id=42

        wakelog projection why totals totals customer=ada --at 2h --app shop.py --json
    """
    from wakelog.projections.provenance import why as found_by

    if position is not None and at is not None:
        raise click.UsageError("expected one of --position and --at, found both")
    row = dict(_pair(one) for one in key)
    url = find_url(database)
    definition = definition_of(app, name)
    with connected(url) as connection:
        sequence_if_allowed(connection)
        upto = position_of(connection, position if position is not None else at or "now")
        progress = Progress("folding", "positions", None)
        touches = found_by(
            connection, url, name, definition, table, row, upto,
            progress=lambda positions: progress.advance(positions, positions),
        )  # fmt: skip
        with closing(touches):
            with progress:
                first = next(touches, None)
            if first is None:
                raise Failure(
                    f"no event up to position {upto:,} wrote a row of {table} with {' '.join(key)}",
                    ExitCode.UNKNOWN_NAME,
                    next_command=f"see its rows: wakelog projection show {name} --position {upto}",
                )
            found = chain([first], touches)
            if as_json:
                about = {"projection": name, "table": table, "position": upto}
                say_json_with(about, "events", (_document(one) for one in found))
                return
            say(f"{table} with {' '.join(key)}, at position {upto:,}:")
            count = 0
            for one in found:
                _say(one)
                count += 1
            say(f"\n{counted(count, 'event')} wrote it.")


def _pair(said: str) -> tuple[str, str]:
    column, equals, text = said.partition("=")
    if not column or not equals:
        raise click.UsageError(f"expected a column and its value, such as id=42, found {said!r}")
    return column, text


def _say(one: "Touch") -> None:
    say(f"\n{one.position:>8,}  {clock_time(one.recorded_at)}  {one.type}  {one.id}")
    say(f"          {_became(one)}")
    for depth, cause in enumerate(one.causes, start=1):
        where = f"{cause.position:,}" if cause.position is not None else "no position yet"
        say(f"          {'  ' * depth}because of {cause.type} at {where}, {cause.id}")


def _became(one: "Touch") -> str:
    if one.now is None:
        return f"gone: {shortened(to_json(one.was), 160)}"
    if one.was is None:
        return f"new: {shortened(to_json(one.now), 160)}"
    changed = [
        f"{column}: {shortened(to_json(one.was.get(column)), 60)} -> {shortened(to_json(cell), 60)}"
        for column, cell in one.now.items()
        if one.was.get(column) != cell
    ]
    return ", ".join(changed) or "written as it was"


def _document(one: "Touch") -> dict[str, Any]:
    return {
        "position": one.position, "id": one.id, "type": one.type, "recorded_at": one.recorded_at, "was": one.was,
        "is": one.now,
        "causes": [
            {"position": cause.position, "id": cause.id, "type": cause.type, "source": cause.source}
            for cause in one.causes
        ],
    }  # fmt: skip
