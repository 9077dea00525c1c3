"""`wakelog seal`: the seals of the log, and their making."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich_click import group

from wakelog_cli.database import connected, rows, sequence_if_allowed
from wakelog_cli.failures import Failure
from wakelog_cli.moments import Duration, clock_time, in_words
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, say, say_json, table
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.integrity.seal import Seal


@group()
def seal() -> None:
    """Seal the log, and take seals home, so that no change of the past goes unseen.

    Example: wakelog seal export > seal.json
    """


@seal.command("list")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 10**9),
    default=20,
    show_default=True,
    help="At most so many, newest first.",
)
@database_option
@json_option
def list_(limit: int, database: str | None, as_json: bool) -> None:
    """List the seals, newest first, and how much is not sealed yet.

    Example: wakelog seal list --limit 5
    """
    with connected(database) as connection:
        found = rows(
            connection,
            """select number, from_position as "from", to_position as "to", count, encode(root, 'hex') as root,
                      encode(previous, 'hex') as previous, sealed_at, encode(hash, 'hex') as hash
               from wakelog.seals order by number desc limit %(limit)s""",
            {"limit": limit},
        )
        state = _state(connection)
    if as_json:
        say_json({"seals": found, **state})
        return
    table(
        {
            "seal": "right",
            "from": "right",
            "to": "right",
            "events": "right",
            "sealed": "left",
            "hash": "left",
        },
        ((s["number"], s["from"], s["to"], s["count"], clock_time(s["sealed_at"]), s["hash"]) for s in found),
        empty="There are no seals yet.",
    )
    how = (
        f"every {in_words(state['every'])}, by the doorkeeper"
        if state["enabled"]
        else "only by hand: wakelog seal now"
    )
    say(f"\n{counted(state['unsealed'], 'event')} not sealed yet. Sealing: {how}")


@seal.command()
@click.option(
    "--all", "every", is_flag=True, help="All seals, so that it can be said which one was made anew."
)
@database_option
@json_option
def export(every: bool, database: str | None, as_json: bool) -> None:
    """Print the newest seal as JSON, to be kept where nobody who can write to the database can write.

    Whoever changes the past and makes all seals anew is found by it: wakelog verify --against FILE.

    Example: wakelog seal export > seal.json
    """
    from wakelog.integrity.seal import FORM, each_seal, last_seal

    with connected(database) as connection:
        newest = last_seal(connection)
        if newest is None:
            raise Failure("there are no seals yet", next_command="make one: wakelog seal now")
        found = list(each_seal(connection)) if every else [newest]
    document = {"wakelog": "seals", "form": FORM, "seals": [each.document() for each in found]}
    if as_json:
        say_json(document)
    else:
        say(json.dumps(document, indent=2))


@seal.command()
@database_option
@json_option
def now(database: str | None, as_json: bool) -> None:
    """Seal everything that is in the log now.

    Example: wakelog seal now
    """
    from wakelog.integrity.seal import last_seal
    from wakelog.integrity.sealing import seal_now

    events = seals = 0
    with connected(database) as connection:
        sequence_if_allowed(connection)
        with Progress("sealed", "events", _state(connection)["unsealed"]) as progress:
            for count in seal_now(connection):
                progress.advance(count, count)
                events += count
                seals += 1
        newest = last_seal(connection)
        state = _state(connection)
    if as_json:
        last = None if newest is None else newest.document()
        say_json({"events": events, "seals": seals, "unsealed": state["unsealed"], "last_seal": last})
        return
    made = f"{counted(events, 'event')} sealed in {counted(seals, 'seal')}"
    say(f"{made} ({progress.rate:,.0f} a second). {_last(newest)}")


def _last(newest: "Seal | None") -> str:
    return (
        "There are no seals yet."
        if newest is None
        else f"Last seal: {newest.number}, hash {newest.hash.hex()}"
    )


@seal.command()
@click.option("--every", type=Duration(), help="How often, such as 10s or 5m; without it, as before.")
@database_option
@json_option
def on(every: timedelta | None, database: str | None, as_json: bool) -> None:
    """Have the doorkeeper seal the log every so often. It does, unless turned off.

    Example: wakelog seal on --every 30s
    """
    if every is not None and every <= timedelta(0):
        raise click.UsageError("expected --every of more than nothing")
    _set(True, every, database, as_json)


@seal.command()
@database_option
@json_option
def off(database: str | None, as_json: bool) -> None:
    """Have the doorkeeper seal no more; what is sealed stays so. `wakelog seal now` seals by hand.

    Example: wakelog seal off
    """
    _set(False, None, database, as_json)


def _set(enabled: bool, every: timedelta | None, database: str | None, as_json: bool) -> None:
    with connected(database) as connection:
        connection.execute("select wakelog.set_sealing(%s, %s)", [enabled, every])
        state = _state(connection)
    if as_json:
        say_json(state)
    elif enabled:
        say(f"The doorkeeper seals the log every {in_words(state['every'])}. See: wakelog seal list")
    else:
        unsealed = counted(state["unsealed"], "event")
        say(f"The doorkeeper seals no more; not sealed: {unsealed}. Again: wakelog seal on")


def _state(connection: "Connection[Any]") -> dict[str, Any]:
    (state,) = rows(
        connection,
        """select g.enabled, g.every,
                  greatest(s.head - coalesce((select max(l.to_position) from wakelog.seals l), 0), 0) as unsealed
           from wakelog.sealing g cross join wakelog.sequencer s""",
    )
    return state
