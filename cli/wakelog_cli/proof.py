"""`wakelog proof`: that one event is in the log, for somebody who has no database."""

import json
import re
from uuid import UUID

import click
from rich_click import command

from wakelog_cli.database import connected
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import say, say_json


@command()
@click.argument("event", metavar="POSITION|EVENT_ID", required=False)
@click.option(
    "--checker",
    is_flag=True,
    help="Print the program that checks a proof; it needs Python 3.11, and neither Wakelog nor a database.",
)
@database_option
@json_option
def proof(event: str | None, checker: bool, database: str | None, as_json: bool) -> None:
    """Print a proof that an event is in the log, as its seal covers it.

    Give it away with the exported seals (wakelog seal export --all); it is checked offline.

    Examples:

        wakelog proof 812 > proof.json

        wakelog proof --checker > check_proof.py && python3 check_proof.py proof.json
    """
    if checker:
        program = _checker()
        if as_json:
            say_json({"program": program})
        else:
            click.echo(program, nl=False)
        return
    which = _which(event)

    from wakelog.integrity.proof import proof as prove

    with connected(database) as connection:
        document = prove(connection, which)
    if as_json:
        say_json(document)
    else:
        say(json.dumps(document, indent=2, ensure_ascii=False))


def _which(event: str | None) -> int | UUID:
    if event is None:
        raise click.UsageError("expected a position or an event's id, found neither")
    if re.fullmatch(r"\d{1,18}", event):
        return int(event)
    try:
        return UUID(event)
    except ValueError:
        raise click.UsageError(f"expected a position such as 812 or an event's id, found {event!r}") from None


def _checker() -> str:
    from wakelog_cli.demo_repository import examples_folder

    return (examples_folder() / "check_proof.py").read_text()
