"""Options that many commands share."""

import shlex
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Duration

Command = Callable[..., Any]


def database_option(command: Command) -> Command:
    """`--database`: which log to talk to."""
    return click.option(
        "--database",
        metavar="URL",
        help="The PostgreSQL with the log. Without it: DATABASE_URL, else the server that runs from .wakelog/ here "
        "or in a folder above.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: for programs; passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def yes_option(command: Command) -> Command:
    """`--yes`: do not ask."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(command)


def fold_app_option(command: Command) -> Command:
    """The application that declares a projection."""
    return click.option(
        "--app",
        metavar="MODULE:APP|FILE.py",
        help="The application that declares it; needed where its fold is in Python.",
    )(command)


def models_app_option(command: Command) -> Command:
    """The code that declares models, for `import_models`."""
    return click.option(
        "--app",
        metavar="MODULE|FILE.py",
        help="The code that declares models, to show events as it reads them, and what it says of them.",
    )(command)


def import_models(app: str | None) -> None:
    """Import the code of `--app`, so that what it declares is known; nothing where it was not given.

    An application's name after it (shop.py:app) is no matter. Raises BadInput where it does not import.
    """
    if app is not None:
        from wakelog.agents.load import load_module

        load_module(app.partition(":")[0])


def worker_options(command: Command) -> Command:
    """What a group of workers is to be like."""
    for option in (
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
            help="What to say on stderr.",
        ),
        click.option(
            "--lease",
            type=Duration(),
            default=timedelta(seconds=30),
            show_default="30s",
            help="How long a worker may be silent before its work goes to another.",
        ),
        click.option(
            "--grace",
            type=Duration(),
            default=timedelta(seconds=30),
            show_default="30s",
            help="How long handlers may go on after Ctrl-C or SIGTERM before their events are given back.",
        ),
        click.option(
            "--slots",
            type=click.IntRange(1, 10_000),
            default=10,
            show_default=True,
            help="Handlers at the same time in one process.",
        ),
        click.option(
            "--processes", type=click.IntRange(1, 512), default=1, show_default=True, help="Worker processes."
        ),
    ):
        command = option(command)
    return command


def be_sure(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises `Failure` when the answer is no, and when there is nobody to ask.
    """
    if yes:
        return
    again = f"wakelog {shlex.join(click.get_current_context().find_root().obj)} --yes"
    if not _somebody_is_there():
        raise Failure(
            "this cannot be undone, and stdin is not a terminal to ask on",
            ExitCode.BAD_INPUT,
            next_command=f"if you are sure, type: {again}",
        )
    if not click.confirm(question, err=True):
        raise Failure("nothing was changed", next_command=f"if you change your mind, type: {again}")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()
