"""The second half of the demo: the past is made anew, looked at, begun anew from a point in it, and verified."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wakelog_cli.demo_facts import Progress
from wakelog_cli.demo_fork import fork_after_the_fix
from wakelog_cli.demo_kill import Kill
from wakelog_cli.demo_repository import Repository
from wakelog_cli.demo_runs import PROJECTION, goes_on, make_anew, show_the_past
from wakelog_cli.demo_screen import Screen
from wakelog_cli.demo_seals import seal_and_verify
from wakelog_cli.demo_workers import Workers

if TYPE_CHECKING:
    from psycopg import Connection


def look_back(
    connection: "Connection[Any]",
    url: str,
    repository: Repository,
    progress: Progress,
    kill: Kill,
    workers: Workers,
    screen: Screen,
    scratch: Path,
) -> dict[str, Any]:
    """Show what can be done with the past, once the present has come out right; the facts, `ok` among them."""
    began = time.monotonic()
    screen.part(
        f"Where each run stands is a projection of the log, {PROJECTION}; it is made anew while it serves."
    )
    projection = make_anew(url, progress, screen)
    screen.part(
        "It can be looked at as it was: two minutes ago, and in the middle, when the worker was killed."
    )
    as_of = show_the_past(url, progress, kill, screen)
    screen.part(
        "A workflow can be begun anew from any point; what lies before it is shared, and not done again."
    )
    fork = fork_after_the_fix(connection, repository, progress, workers, screen, scratch)
    kept = goes_on(url, fork["fork"], fork["last_position"], screen)
    screen.part("And none of this can be changed unseen.")
    last = max(progress.read_up_to, fork["last_position"])
    first = min(event["position"] for event in progress.events)
    seals = seal_and_verify(url, first, last, screen)
    return {
        "ok": projection["ok"]
        and all(one["ok"] for one in as_of)
        and fork["ok"]
        and kept["ok"]
        and seals["ok"],
        "projection": {**projection, "fork_in_it": kept["run"]},
        "as_of": as_of,
        "fork": fork,
        "seals": seals,
        "commands": screen.commands,
        "seconds": round(time.monotonic() - began, 2),
    }
