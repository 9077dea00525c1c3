"""`wakelog db`: the schema, the address, and the care of the database."""

from datetime import datetime
from typing import TYPE_CHECKING

import click
from rich_click import group

from wakelog_cli.database import connected, find_url, rows, value
from wakelog_cli.failures import ExitCode
from wakelog_cli.moments import Moment, clock_time
from wakelog_cli.options import be_sure, database_option, json_option, yes_option
from wakelog_cli.output import counted, say, say_json

if TYPE_CHECKING:
    from wakelog.postgres.schema import SchemaStatus


@group()
def db() -> None:
    """Bring the schema up to date, and look after the database.

    Example: wakelog db upgrade
    """


@db.command()
@database_option
@json_option
def upgrade(database: str | None, as_json: bool) -> None:
    """Make the schema, or bring an older one to today's. Workers may go on meanwhile.

    Example: wakelog db upgrade --database postgresql://me@localhost/app
    """
    from wakelog.postgres.roles import roles_status
    from wakelog.postgres.schema import status, upgrade

    url = find_url(database)
    before = status(url)
    with connected(url, schema=False) as connection:
        lacking = roles_status(connection)
    after = upgrade(url)
    with connected(url, schema=False) as connection:
        left = roles_status(connection)
    entitled = sorted({*lacking.missing, *lacking.without_rights} - {*left.missing, *left.without_rights})
    if as_json:
        say_json(
            {
                "before": before.current,
                "current": after.current,
                "head": after.head,
                "state": after.state,
                "roles_given_their_rights": entitled,
            }
        )
    elif before.state == "current" and entitled:
        say(f"The schema is current already: {after.current}; given their rights: {', '.join(entitled)}")
    elif before.state == "current":
        say(f"The schema is current already: {after.current}")
    else:
        say(f"The schema is at {after.current} now. Next: wakelog append hello, or wakelog worker module:app")


@db.command("status")
@database_option
@json_option
def status_(database: str | None, as_json: bool) -> None:
    """Compare the schema of the database with the one this Wakelog expects; 3 unless it is the same.

    Example: wakelog db status
    """
    from wakelog.postgres.roles import roles_status
    from wakelog.postgres.schema import schema_status

    with connected(database, schema=False) as connection:
        found = schema_status(connection)
        roles = roles_status(connection)
    if as_json:
        say_json(
            {
                "state": found.state,
                "current": found.current,
                "head": found.head,
                "functions_current": found.functions_current,
                "installed_by": found.installed_by,
                "roles_missing": roles.missing,
                "roles_without_rights": roles.without_rights,
            }
        )
    else:
        say(_said(found))
        if found.state == "current" and roles.without_rights:
            say(
                f"Made since then, and without rights: {', '.join(roles.without_rights)}. Next: wakelog db upgrade"
            )
    if found.state != "current":
        click.get_current_context().exit(ExitCode.NO_DATABASE)


def _said(found: "SchemaStatus") -> str:
    match found.state:
        case "absent":
            return "The database has no Wakelog schema. Make it: wakelog db upgrade"
        case "current":
            return f"The schema is current: {found.current}"
        case "newer":
            return (
                f"The schema is at {found.current}, upgraded by Wakelog {found.installed_by or '(unknown)'}, which is "
                "newer than this one. Install that version or a later one, then: wakelog db status"
            )
        case "old" if found.current == found.head:
            return (
                f"The tables are current ({found.current}), the functions are those of Wakelog "
                f"{found.installed_by or '(unknown)'}. Bring them up to date: wakelog db upgrade"
            )
        case _:
            return f"The schema is at {found.current}, expected {found.head}. Bring it up to date: wakelog db upgrade"


@db.command("sql")
@json_option
def sql_(as_json: bool) -> None:
    """Print the SQL that makes the schema, for psql -f and for review; needs no database.

    Example: wakelog db sql > wakelog.sql && psql -1 -f wakelog.sql
    """
    from wakelog.postgres.schema import upgrade_sql

    text = upgrade_sql()
    if as_json:
        say_json({"sql": text})
    else:
        click.echo(text, nl=not text.endswith("\n"))


@db.command()
@click.option("--psql", is_flag=True, help="With the password, as psql takes it.")
@database_option
@json_option
def url(psql: bool, database: str | None, as_json: bool) -> None:
    """Print the URL of the database in use; its password is hidden unless --psql is given.

    Example: psql "$(wakelog db url --psql)"
    """
    from wakelog.postgres.connect import safe_url

    found = find_url(database)
    shown = found if psql else safe_url(found)
    if as_json:
        say_json({"url": shown})
    else:
        say(shown)


@db.command()
@database_option
@json_option
def rebase(database: str | None, as_json: bool) -> None:
    """After a restore into another cluster: count transactions anew. Nothing is lost, and positions stay.

    A worker does so by itself. Appends wait until it is done.

    Example: wakelog db rebase
    """
    with connected(database) as connection:
        added: int = value(connection, "select wakelog.rebase()")
    if as_json:
        say_json({"events_added": added})
    else:
        say(f"Rebased: {counted(added, 'event')} new in the log. Check: wakelog doctor")


@db.command("drop-history")
@click.option(
    "--before",
    type=Moment(),
    required=True,
    metavar="TIME",
    help="Whole days (UTC) that ended before this date, or so long ago (30d).",
)
@yes_option
@database_option
@json_option
def drop_history(before: datetime, yes: bool, database: str | None, as_json: bool) -> None:
    """Drop the record of finished deliveries of days long past; events and unfinished work stay.

    Example: wakelog db drop-history --before 30d --yes
    """
    with connected(database) as connection:
        be_sure(f"Drop the history of all days that ended before {clock_time(before)}?", yes)
        days = [
            row["day"].isoformat()
            for row in rows(
                connection, "select d as day from wakelog.drop_history(%(before)s) d", {"before": before}
            )
        ]
    if as_json:
        say_json({"days": days})
    elif days:
        say(f"Dropped the history of {counted(len(days), 'day')}, {days[0]} to {days[-1]}.")
    else:
        say(f"There is no history of days that ended before {clock_time(before)}; nothing was dropped.")
