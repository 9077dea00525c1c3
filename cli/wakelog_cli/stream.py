"""`wakelog stream`: the events of one stream, and the state they come to, now or at any moment."""

from typing import TYPE_CHECKING, Any

import click
from rich_click import group

from wakelog_cli.database import connected, sequence_if_allowed, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Place, Start, clock_time
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, event_document, say, say_json, shortened, table, to_json
from wakelog_cli.places import position_of

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.log.event import Event
    from wakelog.projections.definition import ProjectionDefinition


@group()
def stream() -> None:
    """See a stream: the events of one entity, in the order of their versions, and the state they come to.

    Example: wakelog stream show order-17
    """


@stream.command()
@click.argument("name", metavar="STREAM")
@click.option("--position", type=click.IntRange(min=0), help="As it was at this position of the log.")
@click.option("--at", type=Place(), metavar="TIME", help="As it was then: a time, or how long ago (2h).")
@click.option(
    "--between", type=(Place(), Place()), metavar="T1 T2",
    help="What happened between two moments: times, positions, how long ago, now.",
)  # fmt: skip
@click.option(
    "--app",
    metavar="MODULE:APP|FILE.py",
    help="The application whose live projections say what its state is.",
)
@click.option("--projection", "named", multiple=True, metavar="NAME", help="Only this one. May be repeated.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 10**6),
    default=20,
    show_default=True,
    help="The last so many events.",
)
@database_option
@json_option
def show(
    name: str, position: int | None, at: Start | None, between: tuple[Start, Start] | None, app: str | None,
    named: tuple[str, ...], limit: int, database: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the events of a stream, and with --app the state that its live projections fold them to.

    With --between, the events between two moments, and what they changed in that state.

    Examples:

        wakelog stream show order-17

        wakelog stream show cart-3 --at 2h --app shop.py

        wakelog stream show cart-3 --between 2h now --app shop.py --projection cart
    """
    if sum(each is not None for each in (position, at, between)) > 1:
        raise click.UsageError("expected one of --position, --at and --between, found more")
    if named and app is None:
        raise click.UsageError("expected --app together with --projection, found none")
    folds = _folds(app, named) if app is not None else {}
    with connected(database) as connection:
        sequence_if_allowed(connection)
        if between is None:
            after, upto = None, position_of(connection, position if position is not None else at or "now")
        else:
            after, upto = position_of(connection, between[0]), position_of(connection, between[1])
            if after > upto:
                raise click.UsageError(
                    f"expected the earlier moment first, found positions {after} and {upto}"
                )
        version = _version(connection, name, upto)
        events = _last(connection, name, after or 0, upto, version, limit)
        before = _states(connection, folds, name, after) if after is not None else {}
        states = _states(connection, folds, name, upto)
    if as_json:
        document = {"stream": name, "position": upto, "version": version, "states": states}
        if after is not None:
            document |= {"since": after, "before": before, "differences": _differences(before, states)}
        say_json(document | {"events": [event_document(event) for event in events]})
        return
    since = f"after position {after:,}, " if after is not None else ""
    say(f"{name}, {since}at position {upto:,}: version {version:,}")
    _say_events(events, version, limit)
    if after is None:
        for projection, state in states.items():
            say(f"{projection}: {to_json(state)}")
        return
    for projection, changes in _differences(before, states).items():
        say(f"{projection}: {counted(len(changes), 'difference') if changes else 'the same'}")
        for change in changes:
            say(f"  {change['path'] or '(all of it)'}: {_side(change, 'was')} -> {_side(change, 'is')}")


def _folds(app: str, named: tuple[str, ...]) -> dict[str, "ProjectionDefinition"]:
    from wakelog.agents.load import load_app

    live = {name: one for name, one in load_app(app).projections.items() if one.mode == "live"}
    for name in named or ([] if live else [""]):
        if name not in live:
            wanted = f'no live projection "{name}"' if name else "no live projection"
            raise Failure(
                f'"{app}" declares {wanted}; live ones are: {", ".join(live) or "none"}',
                ExitCode.UNKNOWN_NAME,
                next_command='declare one: @app.projection("cart", mode="live", initial=dict)',
            )
    return {name: live[name] for name in named or live}


def _version(connection: "Connection[Any]", name: str, upto: int) -> int:
    """The version the stream had at a position; 0 where it began later. Raises `Failure` where it never did."""
    found = value(
        connection,
        """select e.version from wakelog.events e join wakelog.log l on l.seq = e.seq
           where e.stream = %(name)s and l.position <= %(upto)s order by e.version desc limit 1""",
        {"name": name, "upto": upto},
    )
    if found is not None:
        return found
    if value(
        connection, "select true from wakelog.events e where e.stream = %(name)s limit 1", {"name": name}
    ):
        return 0
    raise Failure(
        f'there is no stream "{name}"', ExitCode.UNKNOWN_NAME, next_command="find one: wakelog tail --json"
    )


def _last(
    connection: "Connection[Any]", name: str, after: int, upto: int, version: int, limit: int
) -> list["Event"]:
    from wakelog.log.read import read_part

    return list(
        read_part(
            connection, name, after=after, upto=upto, after_version=max(version - limit, 0), upto_version=version,
            types=["#"],
        )
    )  # fmt: skip


def _states(
    connection: "Connection[Any]", folds: dict[str, "ProjectionDefinition"], name: str, upto: int
) -> dict[str, Any]:
    """What each comes to, as JSON has it."""
    from wakelog.postgres import jsonb
    from wakelog.projections.live import fold

    return {
        projection: jsonb.decode(jsonb.encode(fold(connection, definition, stream=name, upto=upto)))
        for projection, definition in folds.items()
    }


def _differences(before: dict[str, Any], states: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    from wakelog.log.paths import by_path

    return {
        name: [{"path": path, "was": was, "is": now} for path, was, now in by_path(before[name], state)]
        for name, state in states.items()
    }


def _side(change: dict[str, Any], side: str) -> str:
    return shortened(to_json(change[side]), 60)


def _say_events(events: list["Event"], version: int, limit: int) -> None:
    table(
        {"position": "right", "version": "right", "at": "left", "type": "left", "id": "left", "payload": "fold"},
        (
            (
                f"{event.position or 0:,}", event.version, clock_time(event.recorded_at), event.type, event.id,
                shortened(to_json(event.payload), 300),
            )
            for event in events
        ),
        empty="There are no events of it there.",
    )  # fmt: skip
    if events and len(events) == limit < version:
        say(f"(the last {limit}; more with --limit)")
