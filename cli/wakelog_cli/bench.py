"""`wakelog bench`: how fast this server is with Wakelog, and what would make it faster."""

import sys
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.database import find_url
from wakelog_cli.interruption import ended_like_ctrl_c
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import say, say_json, table

if TYPE_CHECKING:
    from wakelog.measuring.server import Settings
    from wakelog.measuring.survey import Survey


@command()
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=3.0,
    show_default=True,
    help="How long each of the seven stages takes, about.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="How many append at the same time.",
)
@database_option
@json_option
def bench(seconds: float, clients: int, database: str | None, as_json: bool) -> None:
    """Measure the server: appends, waking, deliveries, effects; and say what to tune.

    Nothing is added to the log. It measures in a scratch database beside the one that is named, which it makes and
    drops, also at Ctrl-C; the role needs the right to create databases. Meanwhile the server is as busy as it can be.

    Examples:

        wakelog bench --database postgresql://me@localhost/app

        wakelog bench --seconds 10 --clients 64 --json
    """
    from wakelog.measuring.advice import advise
    from wakelog.measuring.scratch import scratch_database
    from wakelog.measuring.survey import STAGES, survey

    def stage(name: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"{STAGES.index(name) + 1}/{len(STAGES)} {name} ...", err=True)

    url = find_url(database)
    with ended_like_ctrl_c(), scratch_database(url) as scratch:
        if scratch.left_behind:
            click.echo(f"dropped what a killed run had left: {', '.join(scratch.left_behind)}", err=True)
        found = survey(scratch.url, seconds=seconds, clients=clients, stage=stage)
    advice = advise(found)
    if as_json:
        say_json(
            {
                "server": _server(found.settings) | {"listening": found.listening},
                "figures": [
                    dict(zip(("figure", "value", "unit", "p99"), row, strict=True)) for row in _rows(found)
                ],
                "advice": [{"about": a.about, "found": a.found, "do": a.do} for a in advice],
            }
        )
        return
    say(
        f"PostgreSQL {found.settings.version}, one worker process with 10 slots, both ends on this machine's clock.\n"
    )
    table(
        {"figure": "left", "": "right", "unit": "left", "99 % within": "right"},
        ((name, _short(value), unit, _short(p99)) for name, value, unit, p99 in _rows(found)),
        empty="",
    )
    say()
    table(
        {"what to tune": "left", "found": "fold", "do": "fold"},
        ((a.about, a.found, a.do) for a in advice),
        empty="Nothing stands out that should be tuned.",
    )


def _rows(found: "Survey") -> list[tuple[str, float, str, float | None]]:
    """Figure, value, unit and 99th percentile."""
    commits, disk = found.commits, found.commits.on_disk.p50 - found.commits.unwaited.p50
    return [
        ("network round trip", found.round_trip.p50 * 1000, "ms", found.round_trip.p99 * 1000),
        ("commit of one row", commits.as_set.p50 * 1000, "ms", commits.as_set.p99 * 1000),
        ("of which waiting for the disk", max(disk, 0.0) * 1000, "ms", None),
        ("appends, 1 client", found.appends_of_one.a_second, "events/s", None),
        (f"appends, {found.clients} clients", found.appends_of_many.a_second, "events/s", None),
        (
            "insert to handler, idle",
            found.insert_to_handler.p50 * 1000,
            "ms",
            found.insert_to_handler.p99 * 1000,
        ),
        ("deliveries, no-op handler", found.no_ops, "events/s", None),
        ("deliveries, batch=500", found.batched, "events/s", None),
        ("deliveries, one write each", found.effects, "events/s", None),
    ]


def _server(settings: "Settings") -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


def _short(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
