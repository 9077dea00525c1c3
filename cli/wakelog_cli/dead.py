"""`wakelog dead`: the deliveries that were given up, and what becomes of them."""

import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich_click import group

from wakelog_cli.database import connected, require_agent, rows, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import clock_time
from wakelog_cli.options import Command, be_sure, database_option, json_option, yes_option
from wakelog_cli.output import counted, say, say_json, shortened, table, to_json
from wakelog_cli.retrying import Pace, retry_all

if TYPE_CHECKING:
    from psycopg import Connection


@group()
def dead() -> None:
    """See the deliveries that were given up; try them again or let them rest.

    Example: wakelog dead list
    """


@dead.command("list")
@click.option("--agent", help="Of this agent only.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10**9), default=1000, show_default=True, help="At most so many."
)
@database_option
@json_option
def list_(agent: str | None, limit: int, database: str | None, as_json: bool) -> None:
    """List the dead letters, oldest first.

    Example: wakelog dead list --agent tests
    """
    with connected(database) as connection:
        if agent is not None:
            require_agent(connection, agent)
        found = rows(
            connection,
            """select agent, position, event_id, type, source, stream, correlation_id, reason, error, attempts,
                      stalled, first_claimed_at, died_at
               from wakelog.dead_letters where %(agent)s::text is null or agent = %(agent)s
               order by died_at, agent, position limit %(limit)s""",
            {"agent": agent, "limit": limit},
        )
    if as_json:
        say_json(found)
        return
    table(
        {
            "agent": "left", "position": "right", "type": "left", "died": "left", "reason": "left",
            "attempts": "right", "error": "fold",
        },
        (
            (
                d["agent"], d["position"], d["type"], clock_time(d["died_at"]), d["reason"], d["attempts"],
                shortened(d["error"] or "", 200),
            )
            for d in found
        ),
        empty="There are no dead letters.",
    )  # fmt: skip
    if found:
        first = f"{found[0]['agent']} {found[0]['position']}"
        say(f"\nLook at one: wakelog dead show {first}; try it again: wakelog dead retry {first}")


@dead.command()
@click.argument("agent")
@click.argument("position", type=click.IntRange(min=1))
@database_option
@json_option
def show(agent: str, position: int, database: str | None, as_json: bool) -> None:
    """Show a dead letter: the event, and each attempt with its traceback.

    Example: wakelog dead show tests 812
    """
    with connected(database) as connection:
        require_agent(connection, agent)
        found = rows(
            connection,
            "select * from wakelog.dead_letters where agent = %(agent)s and position = %(position)s",
            {"agent": agent, "position": position},
        )
    if not found:
        raise _no_such(agent, position)
    (letter,) = found
    if as_json:
        say_json(letter)
        return
    say(f"{letter['type']} at position {position}, id {letter['event_id']}")
    say(f"payload: {shortened(to_json(letter['payload']), 2000)}")
    attempts = counted(letter["attempts"], "attempt")
    say(f"{agent} gave it up at {clock_time(letter['died_at'])}: {letter['reason']}, {attempts}")
    failures: list[dict[str, Any]] = letter["failures"] or []
    for failure in failures:
        at = clock_time(datetime.fromisoformat(failure["failed_at"])) if "failed_at" in failure else ""
        say(
            f"\nattempt {failure.get('attempt')}, {at}, worker {failure.get('worker')}: {failure.get('reason')}"
        )
        say(str(failure.get("detail") or failure.get("error") or "").rstrip())
    say(f"\nThe whole workflow: wakelog timeline {letter['correlation_id']}")


def _which(command: Command) -> Command:
    """AGENT POSITION, or all of an agent's."""
    for option in (
        json_option,
        database_option,
        click.option("--all", "every", is_flag=True, help="All dead letters of the agent."),
        click.option("--agent", "of_agent", help="The agent, with --all."),
        click.argument("position", type=click.IntRange(min=1), required=False),
        click.argument("agent", required=False),
    ):
        command = option(command)
    return command


@dead.command()
@_which
@click.option(
    "--rate",
    type=Pace(),
    metavar="RATE",
    help="With --all: at most so many, as 10/s or 100/m; else as fast as it goes.",
)
def retry(
    agent: str | None,
    position: int | None,
    of_agent: str | None,
    every: bool,
    rate: float | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Give dead letters another round of attempts.

    With --all, those that are dead by now, oldest first, each in a transaction of its own: after Ctrl-C, the same
    command goes on with the rest.

    Examples:

        wakelog dead retry tests 812

        wakelog dead retry --agent tests --all --rate 10/s
    """
    name = _agent(agent or of_agent, position, every)
    if rate is not None and not every:
        raise click.UsageError("expected --rate together with --all, found it with one position")
    with connected(database) as connection:
        positions = _positions(connection, name, position)
        if every:
            retried: list[int] = []
            try:
                retry_all(connection, name, rate or 0.0, retried)
            except BaseException:
                _said(name, retried, as_json)
                again = f"wakelog {shlex.join(click.get_current_context().find_root().obj)}"
                click.echo(f"wakelog: that was not all of them; the same command goes on: {again}", err=True)
                raise
            positions = retried
        else:
            connection.execute("select wakelog.retry_dead(%s, %s)", [name, position])
    _said(name, positions, as_json)


def _said(name: str, retried: list[int], as_json: bool) -> None:
    if as_json:
        say_json({"agent": name, "retried": retried})
    else:
        letters = counted(len(retried), "dead letter")
        say(f"{letters} of {name} to be tried again; watch it: wakelog agents show {name}")


@dead.command()
@_which
@yes_option
def discard(
    agent: str | None,
    position: int | None,
    of_agent: str | None,
    every: bool,
    yes: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """Let dead letters rest: they leave this list and stay in the history.

    Examples:

        wakelog dead discard tests 812 --yes

        wakelog dead discard --agent tests --all --yes
    """
    name = _agent(agent or of_agent, position, every)
    with connected(database) as connection:
        positions = _positions(connection, name, position)
        be_sure(f"Discard {counted(len(positions), 'dead letter')} of {name}?", yes)
        with connection.transaction():
            for each in positions:
                connection.execute("select wakelog.discard_dead(%s, %s)", [name, each])
    if as_json:
        say_json({"agent": name, "discarded": positions})
    else:
        letters = counted(len(positions), "dead letter")
        say(f"{letters} of {name} discarded; what is left: wakelog dead list --agent {name}")


def _agent(name: str | None, position: int | None, every: bool) -> str:
    if name is None:
        raise click.UsageError("expected an agent and a position, or --agent NAME --all, found no agent")
    if (position is None) != every:
        found = "both" if every else "neither"
        raise click.UsageError(f"expected either a position or --all, found {found}")
    return name


def _positions(connection: "Connection[Any]", agent: str, position: int | None) -> list[int]:
    require_agent(connection, agent)
    positions: list[int] = value(
        connection,
        """select coalesce(array_agg(position order by position), '{}') from wakelog.dead_letters
           where agent = %(agent)s and (%(position)s::bigint is null or position = %(position)s)""",
        {"agent": agent, "position": position},
    )
    if position is not None and not positions:
        raise _no_such(agent, position)
    return positions


def _no_such(agent: str, position: int) -> Failure:
    return Failure(
        f"there is no dead letter of {agent} at position {position}",
        ExitCode.UNKNOWN_NAME,
        next_command=f"see: wakelog dead list --agent {agent}",
    )
