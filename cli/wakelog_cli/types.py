"""`wakelog types`: which there are, what is declared of them, and whether the log fits what is declared."""

from typing import TYPE_CHECKING, Any

import click
from rich_click import group

from wakelog_cli.checking import Reading, check_log
from wakelog_cli.database import connected, rows, sequence_if_allowed
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Place, Start
from wakelog_cli.options import database_option, import_models, json_option, models_app_option
from wakelog_cli.output import counted, say, say_json, shortened, table, to_json

if TYPE_CHECKING:
    from psycopg import Connection

COUNTED_TO = 10_000
"""Counts are exact up to here."""

_TYPES = """
    select t.type, t.first_position, last.position as last_position, n.events, e.schema_version as last_version,
           array(select a.name from wakelog.agents a
                 where (a.type_regex is null or '.' || t.type ~ a.type_regex)
                   and t.type not in (a.name || '.completed', a.name || '.failed')
                 order by a.name) as agents
    from wakelog.types t
    cross join lateral (
        select l.position, l.seq from wakelog.log l where l.type_id = t.id
        order by l.type_id desc, l.position desc limit 1) last
    join wakelog.events e on e.seq = last.seq
    cross join lateral (
        select count(*) as events from (
            select from wakelog.log l where l.type_id = t.id limit %(counted_to)s) counted) n
    where %(type)s::text is null or t.type = %(type)s
    order by t.type
"""


@group()
def types() -> None:
    """See the types of events, and check whether the log fits the models in the code.

    Example: wakelog types list
    """


@types.command("list")
@models_app_option
@database_option
@json_option
def list_(app: str | None, database: str | None, as_json: bool) -> None:
    """List the types in the log, and those that the code declares.

    Counts are exact up to 10,000, which stands for that or more.

    Examples:

        wakelog types list

        wakelog types list --app shop.py
    """
    declared = _declared(app)
    with connected(database) as connection:
        sequence_if_allowed(connection)
        found = _found(connection, None)
    known = {each["type"] for each in found}
    found += [
        {"type": name, "first_position": None, "last_position": None, "events": 0, "last_version": None, "agents": []}
        for name in declared
        if name not in known
    ]  # fmt: skip
    for each in found:
        each["model"] = declared.get(each["type"])
    if as_json:
        say_json(found)
        return
    table(
        {
            "type": "left", "events": "right", "first": "right", "last": "right", "version": "right",
            "model": "left", "agents": "fold",
        },
        (
            (
                each["type"], _count(each["events"]), each["first_position"], each["last_position"],
                each["last_version"], _model(each["model"]), ", ".join(each["agents"]) or "none",
            )
            for each in sorted(found, key=lambda each: each["type"])
        ),
        empty="There are no events yet.",
    )  # fmt: skip


@types.command()
@click.argument("type_", metavar="TYPE")
@models_app_option
@database_option
@json_option
def show(type_: str, app: str | None, database: str | None, as_json: bool) -> None:
    """Show a type: its versions among the last 10,000, the last event, and the model that the code declares.

    Example: wakelog types show order.placed --app shop.py
    """
    declared = _declared(app)
    with connected(database) as connection:
        sequence_if_allowed(connection)
        found = _found(connection, type_)
        versions = rows(
            connection,
            """select e.schema_version as version, count(*) as events from (
                   select l.seq from wakelog.log l
                   where l.type_id = (select t.id from wakelog.types t where t.type = %(type)s)
                   order by l.type_id desc, l.position desc limit %(counted_to)s) last
               join wakelog.events e on e.seq = last.seq group by 1 order by 1""",
            {"type": type_, "counted_to": COUNTED_TO},
        )
        last = rows(
            connection,
            "select position, id, payload from wakelog.log_events where position = %(position)s",
            {"position": found[0]["last_position"] if found else None},
        )
    if not found and type_ not in declared:
        raise Failure(
            f'there is no event of the type "{type_}"' + (", and no model of it" if app else ""),
            ExitCode.UNKNOWN_NAME,
            next_command="see: wakelog types list",
        )
    document: dict[str, Any] = {
        "type": type_,
        "events": found[0]["events"] if found else 0,
        "versions": versions,
        "agents": found[0]["agents"] if found else [],
        "last": last[0] if last else None,
        "model": declared.get(type_),
        "schema": _schema(type_) if type_ in declared else None,
    }
    if as_json:
        say_json(document)
        return
    say(
        f"{type_}: {_count(document['events'])} events; wanted by {', '.join(document['agents']) or 'no agent'}"
    )
    for version in versions:
        say(f"  version {version['version']}: {_count(version['events'])}")
    if last:
        say(f"last, at position {last[0]['position']}: {shortened(to_json(last[0]['payload']), 2000)}")
    if document["model"]:
        say(f"model: {_model(document['model'])}")
        say(to_json(document["schema"]))
    elif app is None:
        say(f"\nWhat the code says of it: wakelog types show {type_} --app MODULE")


@types.command()
@click.option("--app", required=True, metavar="MODULE|FILE.py", help="The code that declares models.")
@click.option(
    "--from", "start", type=Place(), default="beginning", metavar="PLACE", show_default=True,
    help="beginning, a position, a time, or how long ago (24h).",
)  # fmt: skip
@click.option(
    "--type", "patterns", multiple=True, metavar="PATTERN", help="Only these types. May be repeated."
)
@click.option("--limit", "-n", type=click.IntRange(1, 10**15), help="End after so many events.")
@click.option(
    "--first", type=click.IntRange(0), default=5, show_default=True, help="Failures shown of each type."
)
@database_option
@json_option
def check(
    app: str, start: Start, patterns: tuple[str, ...], limit: int | None, first: int, database: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Check whether the events of the log can be read with the models of this code.

    Reads them all, through the upcasters, and changes nothing. Exits with 1 if one cannot be read: for CI, before a
    deploy.

    Examples:

        wakelog types check --app shop.py --from 24h

        wakelog types check --app shop.models --type 'order.#' --json
    """
    declared = _declared(app)
    if not declared:
        raise Failure(
            f'expected models in "{app}", found none',
            ExitCode.BAD_INPUT,
            next_command='declare one: @event_model("its.type")',
        )
    with connected(database) as connection:
        sequence_if_allowed(connection)
        reading = check_log(connection, start, patterns or None, limit, first)
    if as_json:
        say_json(reading.document())
    else:
        _say_reading(reading)
    if reading.interrupted:
        raise Failure(
            f"interrupted after {counted(reading.events, 'event')}, at position {reading.position}",
            ExitCode.INTERRUPTED,
            next_command=f"to go on: wakelog types check --app {app} --from {reading.position + 1}",
        )
    if reading.unreadable:
        raise Failure(
            f"{counted(reading.unreadable, 'event')} of {reading.events:,} cannot be read with this code",
            next_command="mend the model, or declare an upcaster",
        )


def _say_reading(reading: Reading) -> None:
    table(
        {"type": "left", "version": "right", "events": "right", "readable": "right", "model": "left"},
        (
            (
                each.type,
                each.version,
                f"{each.events:,}",
                f"{each.readable:,}",
                "yes" if each.has_model else "none",
            )
            for each in reading.kinds()
        ),
        empty="There are no events there.",
    )
    for failure in reading.failures:
        say(f"position {failure.position}: {failure.error}")


def _declared(app: str | None) -> dict[str, dict[str, Any]]:
    import_models(app)
    if app is None:
        return {}
    from wakelog.log.models import declared_types, readable_versions

    return {
        each.type: {
            "name": each.model.__qualname__,
            "version": each.version,
            "readable": readable_versions(each.type),
            "closed": each.closed,
        }
        for each in declared_types()
    }


def _schema(type_: str) -> dict[str, Any]:
    from wakelog.log.models import declared

    known = declared(type_)
    assert known is not None
    return known.model.model_json_schema()


def _found(connection: "Connection[Any]", type_: str | None) -> list[dict[str, Any]]:
    return rows(connection, _TYPES, {"type": type_, "counted_to": COUNTED_TO})


def _count(events: int) -> str:
    return f"{events:,}" + (" or more" if events >= COUNTED_TO else "")


def _model(model: dict[str, Any] | None) -> str:
    if model is None:
        return ""
    older = [str(version) for version in model["readable"][:-1]]
    reads = f", reads {', '.join(older)} too" if older else ""
    return f"{model['name']} {model['version']}{reads}{', closed' if model['closed'] else ''}"
