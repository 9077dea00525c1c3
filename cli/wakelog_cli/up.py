"""`wakelog up`: everything at once, a PostgreSQL if none is named, the schema, and the workers."""

import contextlib
import signal
import sys
from datetime import timedelta
from pathlib import Path

import click
from rich_click import command

from wakelog_cli.database import FOLDER, find_url, is_named, private_folder, psql_program
from wakelog_cli.options import database_option, json_option, worker_options
from wakelog_cli.output import say, say_json
from wakelog_cli.worker import run_workers


@command()
@click.argument("app", required=False, metavar="[MODULE:APP|FILE.py]")
@worker_options
@database_option
@json_option
def up(
    app: str | None,
    processes: int,
    slots: int,
    grace: timedelta,
    lease: timedelta,
    log_level: str,
    database: str | None,
    as_json: bool,
) -> None:
    """Start all there is to start, until Ctrl-C: a database, its schema, and the agents of an application.

    Without --database and DATABASE_URL it runs a private PostgreSQL from .wakelog/, in this folder or the one above
    that has it. Without an application it keeps the doors: appends get their positions, and workers are woken.

    Examples:

        wakelog up

        wakelog up examples/hello.py --processes 2
    """
    from wakelog.postgres.connect import safe_url
    from wakelog.postgres.embedded import EmbeddedPostgres
    from wakelog.postgres.schema import status, upgrade

    with contextlib.ExitStack() as stack:
        # SIGTERM is as good as Ctrl-C, from here until the workers take it over.
        stack.enter_context(_TermAsInterrupt())
        if is_named(database):
            url = find_url(database)
            shown, where = safe_url(url), None
        else:
            private = EmbeddedPostgres(private_folder() or Path(FOLDER))
            if not private.data_folder.exists() and not as_json:
                say(f"Making a private PostgreSQL in {private.folder} ...")
            url = shown = stack.enter_context(private).url
            where = private.folder
            stack.callback(_say_stopping, as_json)
        schema = status(url)
        # Functions of a newer Wakelog, with the same tables, serve this one as well: they are left as they are.
        if schema.state != "newer" or schema.current != schema.head:
            schema = upgrade(url)
        if as_json:
            say_json({"event": "up", "url": shown, "folder": where and str(where), "schema": schema.current})
        else:
            _say_what_is_there(shown, where, app)
        code = run_workers(
            app, url, processes, slots, grace=grace, lease=lease, log_level=log_level, as_json=as_json
        )
    click.get_current_context().exit(code)


def _say_what_is_there(url: str, folder: Path | None, app: str | None) -> None:
    place = f"PostgreSQL runs from {folder}" if folder else "The schema is current"
    say(f"{place}; look inside:\n  {psql_program()} {url}")
    say("Next, in another terminal:")
    say("""  wakelog append hello '{"name": "world"}'""")
    say("  wakelog tail")
    if app is None:
        say("  wakelog worker module:app")
    else:
        say("  wakelog lag")
    say("Ctrl-C stops everything.")
    sys.stdout.flush()


def _say_stopping(as_json: bool) -> None:
    if as_json:
        say_json({"event": "stopping"})
    else:
        say("Stopping PostgreSQL, unless another process uses it.")


class _TermAsInterrupt:
    """Meanwhile SIGTERM raises KeyboardInterrupt, so that everything is stopped in order."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _interrupt(self, *_: object) -> None:
        raise KeyboardInterrupt
