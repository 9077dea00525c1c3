"""The wakelog command: its groups, and the one place where failures become sentences and exit codes."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click
from rich_click import RichCommandPanel, group, rich_config

from wakelog_cli.agents import agents, lag, workers
from wakelog_cli.append import append
from wakelog_cli.bench import bench
from wakelog_cli.db import db
from wakelog_cli.dead import dead
from wakelog_cli.demo import demo
from wakelog_cli.doctor import doctor
from wakelog_cli.failures import ExitCode, explain
from wakelog_cli.forget import forget
from wakelog_cli.projection import projection
from wakelog_cli.proof import proof
from wakelog_cli.seal import seal
from wakelog_cli.stream import stream
from wakelog_cli.tail import tail
from wakelog_cli.timeline import timeline
from wakelog_cli.types import types
from wakelog_cli.up import up
from wakelog_cli.verify import verify
from wakelog_cli.worker import worker
from wakelog_cli.workflow import workflow

if TYPE_CHECKING:
    import io

__all__ = ["main", "run", "wakelog"]


@rich_config(help_config={"text_paragraph_linebreaks": "\n\n"})
@group(
    panels=[
        RichCommandPanel("Events", commands=["append", "tail", "timeline", "workflow", "types"]),
        RichCommandPanel("Agents", commands=["up", "worker", "agents", "lag", "workers", "dead", "demo"]),
        RichCommandPanel("State", commands=["projection", "stream"]),
        RichCommandPanel("Integrity", commands=["verify", "seal", "proof", "forget"]),
        RichCommandPanel("Database", commands=["doctor", "bench", "db"]),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 no database or not its schema, 4 no such name, "
    "5 version conflict, 130 interrupted.",
)
@click.version_option(package_name="wakelog", prog_name="wakelog")
def wakelog() -> None:
    """The append-only log in your Postgres that wakes your agents.

    Begin with `wakelog demo`, or `wakelog up` for a private PostgreSQL in this folder.
    """


for _command in (
    up, append, tail, worker, agents, lag, workers, dead, timeline, workflow, types, projection, stream, verify, seal,
    proof, forget, doctor, bench, db, demo,
):  # fmt: skip
    wakelog.add_command(_command)


def main() -> None:
    """What the `wakelog` script calls."""
    # A terminal that cannot show a character shows its code.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every expected failure is one sentence on stderr."""
    try:
        # Not through click's own main, which has words of its own for Ctrl-C.
        with wakelog.make_context("wakelog", list(arguments), obj=list(arguments)) as context:
            wakelog.invoke(context)
        sys.stdout.flush()
        return ExitCode.OK
    except click.exceptions.Exit as ended:
        sys.stdout.flush()
        return ended.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough (`wakelog tail -f | head -1`).
        _write_no_more()
        return ExitCode.OK
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.ctx.get_help(), err=True)
        return ExitCode.BAD_INPUT
    except Exception as failure:
        explained = explain(failure, _command_path(arguments))
        if explained is None:
            raise
        if isinstance(failure, OSError):
            _write_no_more()
        code, sentence = explained
        click.echo(f"wakelog: {sentence}", err=True)
        return code


def _write_no_more() -> None:
    """What is still buffered goes nowhere, instead of failing again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command_path(arguments: Sequence[str]) -> str:
    """The command that these arguments call, as its help is asked for."""
    command: click.Command = wakelog
    path = ["wakelog"]
    for argument in arguments:
        if not isinstance(command, click.Group):
            break
        found = command.commands.get(argument)
        if found is not None:
            command = found
            path.append(argument)
    return " ".join(path)
