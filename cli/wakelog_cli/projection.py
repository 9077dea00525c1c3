"""`wakelog projection`: state derived from the log: looked at, made anew beside itself, compared, thrown away."""

import shlex
from typing import TYPE_CHECKING, Any

import click
from rich_click import group

from wakelog_cli.changes import changes, document, say_changes
from wakelog_cli.database import connected, find_url, rows, sequence_if_allowed, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Place, Start, clock_time
from wakelog_cli.options import Command, be_sure, database_option, fold_app_option, json_option, yes_option
from wakelog_cli.output import counted, say, say_json, shortened, table, to_json
from wakelog_cli.places import position_of
from wakelog_cli.rebuilding import as_it_was, compare, definition_of, finish_rebuild
from wakelog_cli.why import why

if TYPE_CHECKING:
    from psycopg import Connection


def _processes_option(command: Command) -> Command:
    return click.option(
        "--processes",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="Fold with so many at once, where the projection names a partition key.",
    )(command)


@group()
def projection() -> None:
    """See the projections, make them anew, compare them with the log, pause them, drop them.

    Example: wakelog projection list
    """


projection.add_command(why)


@projection.command("list")
@database_option
@json_option
def list_(database: str | None, as_json: bool) -> None:
    """List the projections: version, position, how far behind, and where one stopped.

    Example: wakelog projection list
    """
    with connected(database) as connection:
        found = rows(connection, "select * from wakelog.projection_status")
    if as_json:
        say_json(found)
        return
    table(
        {
            "projection": "left", "version": "right", "state": "left", "mode": "left", "position": "right",
            "behind": "right", "moved": "left", "skipped": "right", "": "fold",
        },
        (
            (
                one["projection"], one["version"], one["state"], one["mode"], f"{one['position']:,}",
                f"{one['behind']:,}", clock_time(one["moved_at"]) if one["moved_at"] else "", one["skipped"],
                _condition(one),
            )
            for one in found
        ),
        empty="There are no projections yet. One appears when its worker starts: wakelog worker module:app",
    )  # fmt: skip


@projection.command()
@click.argument("name")
@click.option("--position", type=click.IntRange(min=0), help="As it was at this position of the log.")
@click.option("--at", type=Place(), metavar="TIME", help="As it was then: a time, or how long ago (2h).")
@click.option(
    "--between", type=(Place(), Place()), metavar="T1 T2",
    help="What changed between two moments: times, positions, how long ago, now.",
)  # fmt: skip
@click.option("--into", metavar="SCHEMA", help="With --position or --at: leave its tables in a new schema.")
@fold_app_option
@database_option
@json_option
def show(
    name: str,
    position: int | None,
    at: Start | None,
    between: tuple[Start, Start] | None,
    into: str | None,
    app: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Show how a projection stands, where it stopped and what goes on with it; or what it was in the past.

    Examples:

        wakelog projection show ci_runs

        wakelog projection show ci_runs --position 812 --json

        wakelog projection show ci_runs --at 2h --into ci_runs_then

        wakelog projection show ci_runs --between 2h now
    """
    if between is not None:
        if (position, at, into) != (None, None, None):
            raise click.UsageError("expected --between alone, found --position, --at or --into beside it")
        _show_changes(name, between, app, database, as_json)
        return
    if position is None and at is None:
        if into is not None:
            raise click.UsageError("expected --into together with --position or --at, found it alone")
        _show_now(name, database, as_json)
        return
    if position is not None and at is not None:
        raise click.UsageError("expected one of --position and --at, found both")
    _show_then(name, position, at, into, app, database, as_json)


@projection.command()
@click.argument("name")
@fold_app_option
@_processes_option
@database_option
@json_option
def rebuild(name: str, app: str | None, processes: int, database: str | None, as_json: bool) -> None:
    """Make a projection anew beside what serves, and let it take its place in one moment.

    Readers and appends go on. Ctrl-C keeps what was done, and so does a crash: the same command goes on.

    Examples:

        wakelog projection rebuild totals

        wakelog projection rebuild ci_runs --app ci.app:app --processes 4
    """
    from wakelog.projections.rebuilding import begin_rebuild

    url = find_url(database)
    definition = definition_of(app, name)
    with connected(url) as connection:
        sequence_if_allowed(connection)
        build = begin_rebuild(connection, name, definition)
        try:
            folded, left = finish_rebuild(connection, url, build, definition, app, processes)
        except BaseException:
            again = f"wakelog {shlex.join(click.get_current_context().find_root().obj)}"
            click.echo(f"wakelog: what was folded is kept; the same command goes on: {again}", err=True)
            raise
    if as_json:
        say_json(
            {
                "projection": name, "version": build.version, "position": folded.position, "events": folded.events,
                "seconds": folded.seconds, "served": folded.served,
            }
        )  # fmt: skip
    elif folded.served:
        say(
            f"{name} version {build.version} is made anew and serves, at position {folded.position:,} "
            f"({folded.events:,} positions in {folded.seconds:.1f} s); look: wakelog projection show {name}"
        )
        if left:
            say(f"The old tables are still read, and will be dropped by a worker: {left}")
    else:
        say(
            f"{name} version {build.version} is made, and takes over once no worker with the older version is "
            f"left; watch it: wakelog projection show {name}"
        )


@projection.command()
@click.argument("name")
@fold_app_option
@_processes_option
@database_option
@json_option
def verify(name: str, app: str | None, processes: int, database: str | None, as_json: bool) -> None:
    """Fold the log again aside, and compare row by row at the same position; 1 if anything differs.

    Examples:

        wakelog projection verify totals

        wakelog projection verify ci_runs --app ci.app:app
    """
    url = find_url(database)
    definition = definition_of(app, name)
    with connected(url) as connection:
        _require(connection, name)
        sequence_if_allowed(connection)
        verdict = compare(connection, url, name, definition, app, processes)
    different = verdict.difference
    if as_json:
        say_json(
            {
                "projection": name, "position": verdict.position, "rows": verdict.rows, "same": different is None,
                "difference": different and {
                    "table": different.table, "serving": different.serving, "rebuilt": different.rebuilt,
                },
            }
        )  # fmt: skip
    elif different is None:
        say(
            f"{name} is what its log makes of it at position {verdict.position:,}: {verdict.rows:,} rows the same"
        )
    else:
        say(
            f"{name} is not what its log makes of it at position {verdict.position:,}; first in {different.table}:"
        )
        say(f"  serves:     {different.serving or 'no such row'}")
        say(f"  log says:   {different.rebuilt or 'no such row'}")
        say(f"To have what the log says: wakelog projection rebuild {name}")
    if different is not None:
        click.get_current_context().exit(ExitCode.FAILED)


@projection.command()
@click.argument("name")
@database_option
@json_option
def pause(name: str, database: str | None, as_json: bool) -> None:
    """Fold nothing more; readers go on seeing what there is.

    Example: wakelog projection pause ci_runs
    """
    with connected(database) as connection:
        _require(connection, name)
        if (
            value(connection, "select mode from wakelog.projections where name = %(n)s", {"n": name})
            == "inline"
        ):
            raise Failure(
                f"expected a projection that is behind the log, found that {name} is inline and part of every append",
                ExitCode.BAD_INPUT,
                next_command=f"see: wakelog projection show {name}",
            )
        value(connection, "select wakelog.pause_projection(%(name)s)", {"name": name})
    if as_json:
        say_json({"projection": name, "paused": True})
    else:
        say(f"{name} is paused; let it go on: wakelog projection resume {name}")


@projection.command()
@click.argument("name")
@click.option("--skip", is_flag=True, help="Leave out the event over which it stopped.")
@database_option
@json_option
def resume(name: str, skip: bool, database: str | None, as_json: bool) -> None:
    """Let a projection go on that was paused, or that stopped over an event: with that event, or after it.

    Examples:

        wakelog projection resume ci_runs

        wakelog projection resume ci_runs --skip
    """
    with connected(database) as connection:
        _require(connection, name)
        count = value(
            connection, "select wakelog.resume_projection(%(n)s, %(skip)s)", {"n": name, "skip": skip}
        )
    if as_json:
        say_json({"projection": name, "resumed": count, "skipped": skip})
    else:
        where = "after the event over which it stopped" if skip and count else "where it was"
        say(f"{name} goes on {where}; watch it: wakelog projection list")


@projection.command()
@click.argument("name")
@yes_option
@database_option
@json_option
def drop(name: str, yes: bool, database: str | None, as_json: bool) -> None:
    """Drop a projection with its tables. The events stay: its worker would make it anew.

    Example: wakelog projection drop ci_runs --yes
    """
    with connected(database) as connection:
        schema = _require(connection, name)["schema"]
        be_sure(f"Drop {name}, with all tables in the schema {schema}?", yes)
        value(connection, "select wakelog.drop_projection(%(name)s)", {"name": name})
    if as_json:
        say_json({"projection": name, "dropped": True})
    else:
        say(f"{name} is dropped; a worker that declares it would make it anew. See: wakelog projection list")


def _require(connection: "Connection[Any]", name: str) -> dict[str, Any]:
    """The projection; raises `Failure` (4) where there is none of that name."""
    found = rows(connection, "select * from wakelog.projections where name = %(name)s", {"name": name})
    if not found:
        raise Failure(
            f'there is no projection "{name}"',
            ExitCode.UNKNOWN_NAME,
            next_command="see: wakelog projection list",
        )
    return found[0]


def _condition(one: dict[str, Any]) -> str:
    """What there is to say of a build, and what goes on with it."""
    name = one["projection"]
    if one["error"] is not None:
        return f"stopped at {one['failed_position'] or 'an event'}: {shortened(one['error'], 120)}; {_goes_on(one)}"
    if one["paused_at"] is not None:
        return f"paused; let it go on: wakelog projection resume {name}"
    if one["attended"] and one["state"] == "building":
        if one["runner_pid"] is None:
            return f"interrupted; go on: wakelog projection rebuild {name}"
        return f"being made anew, {_share(one)}"
    if one["state"] == "retired":
        return "replaced; its tables are dropped when nobody reads them"
    if one["state"] == "building":
        return f"being made, {_share(one)}" if one["behind"] else "made; waits for older workers to be gone"
    if one["runner_pid"] is None and one["mode"] == "async":
        return "nobody folds it: wakelog worker module:app"
    return ""


def _share(one: dict[str, Any]) -> str:
    return f"{one['position'] / one['head']:.0%}" if one["head"] else "nothing to fold"


def _goes_on(one: dict[str, Any]) -> str:
    name = one["projection"]
    if one["mode"] == "inline" and one["state"] == "serving":
        return f"make it anew: wakelog projection rebuild {name}"
    return f"mended, go on: wakelog projection resume {name} (or without the event: --skip)"


def _show_now(name: str, database: str | None, as_json: bool) -> None:
    with connected(database) as connection:
        about = _require(connection, name)
        builds = rows(
            connection,
            "select * from wakelog.projection_status where projection = %(name)s order by build",
            {"name": name},
        )
        skips = rows(
            connection,
            """select l.position, e.type, k.error, k.skipped_at
               from wakelog.projection_skips k
               join wakelog.projection_builds b on b.id = k.build_id
               join wakelog.projections p on p.id = b.projection_id
               join wakelog.log l on l.seq = k.seq join wakelog.events e on e.seq = k.seq
               where p.name = %(name)s order by l.position limit 100""",
            {"name": name},
        )
    if as_json:
        say_json({**about, "builds": builds, "skips": skips})
        return
    for one in builds:
        described = [
            ("version", f"{one['version']}, {one['state']}, {one['mode']}, folded by {one['kind']}"),
            ("tables", f"in the schema {one['schema']}"),
            ("position", f"{one['position']:,} of {one['head']:,}, {one['behind']:,} behind"),
            ("moved", clock_time(one["moved_at"]) if one["moved_at"] else ""),
            ("folded by backend", str(one["runner_pid"] or "")),
            ("in parts", str(one["parts"]) if one["parts"] > 1 else ""),
            ("stopped at", f"position {one['failed_position']}, {one['failed_type']}, event {one['failed_event']}"
             if one["error"] else ""),
            ("error", one["error"] or ""),
            ("next", _condition(one) if not one["error"] else _goes_on(one)),
            ("skipped", counted(one["skipped"], "event") if one["skipped"] else ""),
        ]  # fmt: skip
        table({"": "left", name: "fold"}, ((what, words) for what, words in described if words), empty="")
    if skips:
        say()
        table(
            {"skipped position": "right", "type": "left", "at": "left", "error": "fold"},
            ((k["position"], k["type"], clock_time(k["skipped_at"]), k["error"]) for k in skips),
            empty="",
        )


def _show_then(
    name: str,
    position: int | None,
    at: Start | None,
    into: str | None,
    app: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    url = find_url(database)
    definition = definition_of(app, name)
    with connected(url) as connection:
        _require(connection, name)
        sequence_if_allowed(connection)
        upto = position_of(connection, position if position is not None else at or "beginning")
        found = as_it_was(connection, url, name, definition, app, upto, into)
    if as_json:
        say_json({"projection": name, "position": upto, "schema": into, "tables": found})
    elif found is None:
        say(
            f"{name} as of position {upto:,} is in the schema {into}; when it is no longer needed: drop schema {into}"
        )
    else:
        say(f"{name} as of position {upto:,}:")
        for title, lines in found.items():
            say(f"\n{title}, {counted(len(lines), 'row')}")
            table(
                dict.fromkeys(lines[0] if lines else {}, "fold"),
                (
                    [to_json(cell) if isinstance(cell, dict | list) else cell for cell in one.values()]
                    for one in lines
                ),
                empty="",
            )


def _show_changes(
    name: str, between: tuple[Start, Start], app: str | None, database: str | None, as_json: bool
) -> None:
    url = find_url(database)
    definition = definition_of(app, name)
    with connected(url) as connection:
        _require(connection, name)
        sequence_if_allowed(connection)
        after, upto = (position_of(connection, place) for place in between)
        if after > upto:
            raise click.UsageError(f"expected the earlier moment first, found positions {after} and {upto}")
        found = changes(connection, url, name, definition, app, after, upto)
    if as_json:
        say_json({"projection": name, "since": after, "position": upto, "changes": document(found)})
        return
    say(f"{name} between position {after:,} and {upto:,}:")
    say_changes(found)
