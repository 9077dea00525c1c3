"""`wakelog worker`: run an application's agents."""

import logging
from datetime import timedelta

import click
from rich_click import command

from wakelog_cli.database import connected, find_url
from wakelog_cli.options import database_option, json_option, worker_options
from wakelog_cli.output import say, say_json


@command()
@click.argument("app", metavar="MODULE:APP|FILE.py")
@worker_options
@database_option
@json_option
def worker(
    app: str,
    processes: int,
    slots: int,
    grace: timedelta,
    lease: timedelta,
    log_level: str,
    database: str | None,
    as_json: bool,
) -> None:
    """Run the agents of an application until Ctrl-C or SIGTERM; then what is at work may finish.

    With --json, an object on a line of its own says when they are ready, and when they have stopped.

    Examples:

        wakelog worker ci.agents:app --processes 4

        wakelog worker examples/hello.py
    """
    url = find_url(database)
    with connected(url):
        pass
    code = run_workers(
        app, url, processes, slots, grace=grace, lease=lease, log_level=log_level, as_json=as_json
    )
    click.get_current_context().exit(code)


def run_workers(
    app: str | None,
    url: str,
    processes: int,
    slots: int,
    *,
    grace: timedelta,
    lease: timedelta,
    log_level: str,
    as_json: bool,
) -> int:
    """Run workers, or for no application only keep the doors, until told to stop; the exit code."""
    from wakelog.worker.supervisor import run

    def ready() -> None:
        if as_json:
            say_json({"event": "ready", "app": app, "processes": processes if app else 0, "slots": slots})
        elif app is not None:
            workers = "1 process works" if processes == 1 else f"{processes} processes work"
            say(f"{workers} for {app}, {slots} events at a time; see: wakelog lag")

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(process)d %(levelname)s %(message)s")
    code = run(
        app,
        url=url,
        processes=processes,
        slots=slots,
        grace=grace.total_seconds(),
        lease=lease.total_seconds(),
        log_level=log_level.upper(),
        on_ready=ready,
    )
    if as_json:
        say_json({"event": "stopped"})
    return code
