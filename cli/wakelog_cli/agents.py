"""`wakelog agents`, `wakelog lag`, `wakelog workers`: who works, how far they are, and changing that."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich_click import command, group

from wakelog_cli.database import connected, require_agent, rows, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Place, Start, clock_time, in_words
from wakelog_cli.options import be_sure, database_option, json_option, yes_option
from wakelog_cli.output import counted, say, say_json, table

if TYPE_CHECKING:
    from psycopg import Connection

# wakelog.behind counts no further.
_COUNTED_UP_TO = 10_000


@group()
def agents() -> None:
    """See the agents, pause them, let them see the log again.

    Example: wakelog agents list
    """


@agents.command("list")
@database_option
@json_option
def list_(database: str | None, as_json: bool) -> None:
    """List the agents and how far each is behind.

    Example: wakelog agents list
    """
    _lag(database, as_json)


@command()
@database_option
@json_option
def lag(database: str | None, as_json: bool) -> None:
    """How far each agent is behind, and what it has in hand (the view wakelog.lag).

    Example: wakelog lag
    """
    _lag(database, as_json)


@agents.command()
@click.argument("name")
@database_option
@json_option
def show(name: str, database: str | None, as_json: bool) -> None:
    """Show what an agent wants, how it is treated, how it stands and what it is at.

    Example: wakelog agents show tests
    """
    with connected(database) as connection:
        require_agent(connection, name)
        (agent,) = rows(
            connection,
            """select a.name, a.types, a.sources, a.metadata, a.payload_path::text, a.timeout, a.max_attempts,
                      a.max_stalled, a.backoff, a.concurrency, a.keeps_history, a.created_at, a.updated_at,
                      l.cursor, l.behind, l.oldest_age, l.in_flight, l.retrying, l.dead, l.paused_at
               from wakelog.agents a join wakelog.lag l on l.agent = a.name where a.name = %(name)s""",
            {"name": name},
        )
        in_hand = rows(
            connection,
            """select position, type, state, attempt, worker_name, since_claim, available_at, last_error
               from wakelog.in_flight where agent = %(name)s order by position limit 100""",
            {"name": name},
        )
    if as_json:
        say_json({**agent, "deliveries": in_hand})
        return
    table({"": "left", name: "fold"}, ((k, v) for k, v in _described(agent)), empty="")
    if in_hand:
        say()
        table(
            {
                "position": "right", "type": "left", "state": "left", "attempt": "right", "worker": "left",
                "last error": "fold",
            },
            (
                (d["position"], d["type"], d["state"], d["attempt"], d["worker_name"], d["last_error"])
                for d in in_hand
            ),
            empty="",
        )  # fmt: skip
    if agent["dead"]:
        say(f"\nIts dead letters: wakelog dead list --agent {name}")


@agents.command()
@click.argument("name")
@database_option
@json_option
def pause(name: str, database: str | None, as_json: bool) -> None:
    """Hand out nothing more to an agent; what it is working on is finished.

    Example: wakelog agents pause tests
    """
    with connected(database) as connection:
        require_agent(connection, name)
        connection.execute("select wakelog.pause_agent(%s)", [name])
        since = value(
            connection, "select paused_at from wakelog.agents where name = %(name)s", {"name": name}
        )
    if as_json:
        say_json({"agent": name, "paused_at": since})
    else:
        say(f"{name} is paused since {clock_time(since)}; let it go on: wakelog agents resume {name}")


@agents.command()
@click.argument("name")
@database_option
@json_option
def resume(name: str, database: str | None, as_json: bool) -> None:
    """Let a paused agent go on where it stopped.

    Example: wakelog agents resume tests
    """
    with connected(database) as connection:
        require_agent(connection, name)
        connection.execute("select wakelog.resume_agent(%s)", [name])
    if as_json:
        say_json({"agent": name, "paused_at": None})
    else:
        say(f"{name} goes on; see how far it is: wakelog agents show {name}")


@agents.command()
@click.argument("name")
@click.option(
    "--to",
    "place",
    type=Place(),
    required=True,
    metavar="PLACE",
    help="The first position to deliver anew; or a time, how long ago (2h), beginning, or now to skip what waits.",
)
@click.option(
    "--keep-steps", is_flag=True, help="Keep the results of finished steps instead of running them again."
)
@yes_option
@database_option
@json_option
def rewind(name: str, place: Start, keep_steps: bool, yes: bool, database: str | None, as_json: bool) -> None:
    """Let an agent see the log again from a place in it.

    What is being worked on stays as it is. Dead letters from there on go, since they are delivered anew.

    Examples:

        wakelog agents rewind tests --to 812

        wakelog agents rewind tests --to 2h --keep-steps --yes
    """
    with connected(database) as connection:
        require_agent(connection, name)
        position = _position(connection, place)
        head = value(connection, "select head from wakelog.sequencer")
        if not 1 <= position <= head + 1:
            raise Failure(
                f"expected a position from 1 to {head + 1}, found {position}",
                ExitCode.BAD_INPUT,
                next_command=f"see how far it is: wakelog agents show {name}",
            )
        cursor = value(
            connection,
            """select c.position from wakelog.cursors c join wakelog.agents a on a.id = c.agent_id
               where a.name = %(name)s""",
            {"name": name},
        )
        be_sure(_what_a_rewind_does(name, cursor, position), yes)
        back = value(
            connection,
            "select wakelog.rewind_agent(%(name)s, %(position)s, %(keep_steps)s)",
            {"name": name, "position": position, "keep_steps": keep_steps},
        )
    if as_json:
        say_json({"agent": name, "position": position, "positions_back": back})
    else:
        went = (
            f"went back {counted(back, 'position')}" if back >= 0 else f"skipped {counted(-back, 'position')}"
        )
        say(f"{name} {went} and goes on at position {position:,}; watch it: wakelog lag")


@agents.command()
@click.argument("name")
@yes_option
@database_option
@json_option
def remove(name: str, yes: bool, database: str | None, as_json: bool) -> None:
    """Forget an agent: its place in the log, deliveries, dead letters, steps and history. The events stay.

    Example: wakelog agents remove tests --yes
    """
    with connected(database) as connection:
        require_agent(connection, name)
        be_sure(f"Forget {name}, with its place in the log, its dead letters, steps and history?", yes)
        connection.execute("select wakelog.remove_agent(%s)", [name])
    if as_json:
        say_json({"agent": name, "removed": True})
    else:
        say(
            f"{name} is forgotten; a worker that declares it would register it anew. See: wakelog agents list"
        )


@command()
@database_option
@json_option
def workers(database: str | None, as_json: bool) -> None:
    """Who works, whether it lives, and how much it has in hand (the view wakelog.workers).

    Example: wakelog workers
    """
    with connected(database) as connection:
        found = rows(connection, "select * from wakelog.workers")
    if as_json:
        say_json(found)
        return
    now = datetime.now(UTC)
    table(
        {
            "worker": "right",
            "name": "left",
            "state": "left",
            "in flight": "right",
            "up": "right",
            "agents": "fold",
        },
        (
            (
                w["worker"],
                w["name"],
                ("asleep" if w["asleep"] else "awake") if w["alive"] else "dead",
                w["in_flight"],
                in_words(now - w["started_at"]),
                ", ".join(w["agents"]),
            )
            for w in found
        ),
        empty="Nobody works. Start a worker: wakelog worker module:app",
    )


def _lag(database: str | None, as_json: bool) -> None:
    with connected(database) as connection:
        found = rows(connection, "select * from wakelog.lag")
    if as_json:
        say_json(found)
        return
    table(
        {
            "agent": "left", "position": "right", "behind": "right", "oldest": "right", "in flight": "right",
            "retrying": "right", "dead": "right", "state": "left",
        },
        (
            (
                a["agent"],
                a["cursor"],
                _behind(a["behind"]),
                in_words(a["oldest_age"]) if a["oldest_age"] is not None else "",
                a["in_flight"],
                a["retrying"],
                a["dead"],
                f"paused since {clock_time(a['paused_at'])}" if a["paused_at"] else "",
            )
            for a in found
        ),
        empty="There are no agents yet. One appears when its worker starts: wakelog worker module:app",
    )  # fmt: skip


def _behind(count: int) -> str:
    return f"{count:,}+" if count == _COUNTED_UP_TO else f"{count:,}"


def _backoff(rule: dict[str, Any]) -> str:
    delay = in_words(timedelta(seconds=rule.get("delay", 1)))
    if rule["kind"] == "fixed":
        return f"{delay} between them"
    longest = in_words(timedelta(seconds=rule.get("max", 300)))
    return f"{delay} after the first and twice as long after each, at most {longest}"


def _described(agent: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of an agent, in words."""
    described = [
        ("wants", ", ".join(agent["types"])),
        ("from sources", ", ".join(agent["sources"] or [])),
        ("with metadata", str(agent["metadata"] or "")),
        ("where", agent["payload_path"] or ""),
        ("time limit", in_words(agent["timeout"])),
        ("attempts", f"{agent['max_attempts']}, waiting {_backoff(agent['backoff'])}"),
        ("at the same time", str(agent["concurrency"] or "as many as its workers have room for")),
        ("has claimed up to", f"position {agent['cursor']:,}"),
        ("behind", _behind(agent["behind"])),
        ("oldest waiting", in_words(agent["oldest_age"]) if agent["oldest_age"] is not None else ""),
        ("in flight", f"{agent['in_flight']:,}"),
        ("retrying", f"{agent['retrying']:,}"),
        ("dead letters", f"{agent['dead']:,}"),
        ("paused since", clock_time(agent["paused_at"]) if agent["paused_at"] else ""),
        ("known since", clock_time(agent["created_at"])),
    ]
    return [(what, words) for what, words in described if words]


def _position(connection: "Connection[Any]", place: Start) -> int:
    """The first position to deliver."""
    match place:
        case int():
            return place
        case "beginning":
            return 1
        case "now":
            return value(connection, "select head + 1 from wakelog.sequencer")
        case _:
            return value(connection, "select wakelog.position_at(%(at)s) + 1", {"at": place})


def _what_a_rewind_does(name: str, cursor: int, position: int) -> str:
    back = cursor - (position - 1)
    if back > 0:
        return f"Deliver up to {counted(back, 'event')} to {name} again, from position {position:,} on?"
    return f"Let {name} skip {counted(-back, 'position')}, up to {position:,}, without seeing their events?"
