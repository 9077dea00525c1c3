"""`wakelog demo`: a CI pipeline on real commits, with a worker killed in the middle, and then its past looked at."""

import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich_click import command

from wakelog_cli.database import FOLDER, is_named, private_folder, psql_program
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Duration
from wakelog_cli.options import database_option, json_option

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog_cli.demo_facts import Progress
    from wakelog_cli.demo_kill import Kill
    from wakelog_cli.demo_repository import Repository
    from wakelog_cli.demo_screen import Screen
    from wakelog_cli.demo_workers import Workers

_LOOK_EVERY = 0.03
_SCAN_SECONDS = 2.0
"""How long the scan that is to be interrupted takes at least, so that there is a middle to it."""
_PATIENCE = 60.0
_START_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the log of the demo is, and whether it is there afterwards."""

    url: str
    kind: Literal["named", "private", "passing"]


@command()
@click.option(
    "--repo",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Take the commits from this git repository. Without it: the one around here, else a bundled sample.",
)
@click.option(
    "--commits",
    type=click.IntRange(1, 50),
    default=4,
    show_default=True,
    help="How many of the latest commits to push.",
)
@click.option(
    "--test-command",
    metavar="COMMAND",
    help="What the agent `tests` runs in the files of each commit. Without it: unittest, or what pytest collects.",
)
@click.option(
    "--test-limit",
    type=Duration(),
    default=timedelta(seconds=10),
    show_default="10s",
    help="How long the tests of one commit may run.",
)
@click.option("--keep", is_flag=True, help="Leave server and workers running at the end, until Ctrl-C.")
@database_option
@json_option
def demo(
    repo: Path | None,
    commits: int,
    test_command: str | None,
    test_limit: timedelta,
    keep: bool,
    database: str | None,
    as_json: bool,
) -> int:
    """Push real commits through a CI pipeline, kill a worker in the middle of it, and look back at it all.

    Each push wakes three agents at once: tests, lint and a security scan; together they make one status. The files are
    those of the commits, checked out in a temporary folder. Nothing is changed in the repository. Then the projection
    of the runs is made anew and shown as it was, one workflow is forked after a fix, and the log sealed and verified.

    Exit code 0: each push got exactly one status, what the killed worker was at was finished by another, and the past
    came out right too. 130: Ctrl-C, which leaves nothing of it running.

    Examples:

        wakelog demo

        wakelog demo --repo ~/src/project --test-command 'python -m pytest -q' --commits 2 --keep
    """
    from wakelog.postgres.connect import connect, safe_url
    from wakelog_cli.demo_kill import outcome
    from wakelog_cli.demo_past import look_back
    from wakelog_cli.demo_repository import choose
    from wakelog_cli.demo_screen import Screen
    from wakelog_cli.demo_workers import running

    began = time.monotonic()
    screen = Screen("silent" if as_json else "live" if sys.stdout.isatty() else "lines")
    with (
        _one_interruption(),
        tempfile.TemporaryDirectory(prefix="wakelog-demo-", ignore_cleanup_errors=True) as folder,
        screen,
    ):
        scratch = Path(folder)
        repository = choose(repo, commits, scratch)
        screen.say(f"Commits: {repository.note}.")
        with (
            _database(database, scratch) as place,
            connect(place.url, application_name="wakelog demo") as connection,
        ):
            _prepare(connection, place, screen)
            screen.say(f"PostgreSQL answers at {safe_url(place.url)}. Two worker processes start.")
            with running(place.url, scratch) as workers, _calm_ending():
                _wait_for(workers, connection)
                order = shlex.split(test_command) if test_command else None
                progress = _push(connection, repository, order, test_limit.total_seconds())
                screen.begin(repository)
                kill = _watch(connection, progress, workers, screen)
                screen.settle()
                result = outcome(connection, repository, progress, kill, time.monotonic() - began)
                _tell(connection, progress, kill, result, screen)
                if kill is not None and result["ok"]:
                    screen.where = _where(place, keep=keep)
                    result["past"] = look_back(
                        connection, place.url, repository, progress, kill, workers, screen, scratch
                    )
                    result["ok"] = result["past"]["ok"]
                    result["seconds"] = round(time.monotonic() - began, 2)
                    _tell_the_end(result, screen)
                if as_json:
                    _say_json(result)
                else:
                    _next_commands(place, result, screen, keep=keep)
                if keep:
                    _keep(workers, screen)
                return ExitCode.OK if result["ok"] else ExitCode.FAILED


@contextmanager
def _one_interruption() -> Generator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the demo in order; a second one does not disturb that."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    ending = False

    def interrupted(number: int, frame: object) -> None:
        nonlocal ending
        ending = True
        # What is cut off in the middle of a statement cannot roll back, which the server does by itself.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupted) for each in signals}
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            "wakelog: the demo was interrupted, and all that it had started has ended; again: wakelog demo",
            err=True,
        )
        raise
    finally:
        # After an interruption the process ends; it is to say so with its exit code, whatever else it is sent.
        for each, handler in before.items() if not ending else ():
            signal.signal(each, handler)


@contextmanager
def _calm_ending() -> Generator[None]:
    """From here on everything is being stopped anyway."""
    try:
        yield
    finally:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)


@contextmanager
def _database(given: str | None, scratch: Path) -> Generator[Place]:
    """The database that was named, else the private server of this folder, for as long as the block runs."""
    from wakelog.postgres.connect import database_url
    from wakelog.postgres.embedded import EmbeddedPostgres

    if is_named(given):
        yield Place(database_url(given), "named")
        return
    folder = private_folder()
    lasting = folder is not None or os.access(Path.cwd(), os.W_OK)
    with EmbeddedPostgres((folder or Path(FOLDER)) if lasting else scratch / FOLDER) as server:
        yield Place(server.url, "private" if lasting else "passing")


def _prepare(connection: "Connection[Any]", place: Place, screen: "Screen") -> None:
    """Schema and tables; raises `Failure` where others would take the demo's pushes, or have its tables' names."""
    from wakelog.postgres.schema import require_current, schema_status, upgrade
    from wakelog_cli.demo_facts import living_workers
    from wakelog_cli.demo_runs import require_our_own
    from wakelog_cli.demo_tables import make_collecting_tables

    state = schema_status(connection)
    behind = state.state == "old" or (state.state == "current" and not state.functions_current)
    # Somebody's own database is brought up to date by its owner.
    if state.state == "absent" or (behind and place.kind != "named"):
        upgrade(place.url)
    require_current(connection)
    if others := living_workers(connection):
        raise Failure(
            f"expected a database where nobody else serves the agents tests, lint, security or status, found the "
            f"workers {', '.join(others)}, who would take the demo's pushes; stop them, or use another database",
            ExitCode.CONFLICT,
            next_command="see: wakelog workers",
        )
    require_our_own(connection)
    make_collecting_tables(connection, ours=place.kind != "named", say=screen.say)


def _wait_for(workers: "Workers", connection: "Connection[Any]") -> None:
    from wakelog_cli.demo_facts import living_workers
    from wakelog_cli.demo_workers import PROCESSES

    until = time.monotonic() + _START_PATIENCE
    while len(living_workers(connection)) < PROCESSES:
        workers.require_running()
        if time.monotonic() > until:
            raise Failure(
                f"expected {PROCESSES} workers within {_START_PATIENCE:.0f} seconds, found "
                f"{len(living_workers(connection))}",
                next_command="see: wakelog doctor",
            )
        time.sleep(0.05)


def _push(
    connection: "Connection[Any]", repository: "Repository", test_command: list[str] | None, limit: float
) -> "Progress":
    """Append a push for each commit, all in one transaction."""
    from wakelog import append
    from wakelog_cli.demo_facts import Progress, Push
    from wakelog_cli.demo_kill import victim_of

    victim = victim_of(repository.commits)
    pushes: list[Push] = []
    with connection.transaction():
        for commit in repository.commits:
            payload: dict[str, Any] = {
                "ref": "refs/heads/main",
                "before": commit.parent or "0" * 40,
                "after": commit.sha,
                "repository": {"name": repository.name, "path": str(repository.path)},
                "head_commit": {
                    "id": commit.sha,
                    "message": commit.subject,
                    "timestamp": commit.authored_at,
                    "author": {"name": commit.author},
                },
                "test_limit": limit,
            }
            if test_command:
                payload["test_command"] = test_command
            if commit is victim:
                payload["pace"] = round(_SCAN_SECONDS / max(1, min(commit.files, 40)), 3)
            event = append(connection, "push", payload, source=f"git/{repository.name}")
            pushes.append(Push(str(event.id), commit))
    return Progress(pushes)


def _watch(
    connection: "Connection[Any]", progress: "Progress", workers: "Workers", screen: "Screen"
) -> "Kill | None":
    """Show what happens until nothing does any more; on the way, kill a worker and see who takes over."""
    from wakelog_cli.demo_facts import look
    from wakelog_cli.demo_kill import kill_in_the_middle, notice_take_over, victim_of

    victim = victim_of([push.commit for push in progress.pushes])
    push = next(push for push in progress.pushes if push.commit is victim)
    kill: Kill | None = None
    until = time.monotonic() + _PATIENCE
    while True:
        workers.require_running()
        screen.show(progress, look(connection, progress))
        if kill is None:
            kill = kill_in_the_middle(connection, progress, push, workers, screen)
        elif kill.taken_over is None:
            notice_take_over(connection, progress, kill, screen)
        if progress.finished and (kill is None or kill.taken_over is not None):
            return kill
        if time.monotonic() > until:
            screen.tell(f"Not finished after {_PATIENCE:.0f} seconds; that is too long.", "bold red")
            return kill
        time.sleep(_LOOK_EVERY)


def _say_json(result: dict[str, Any]) -> None:
    from wakelog_cli.output import say_json

    say_json(result)


def _tell(
    connection: "Connection[Any]",
    progress: "Progress",
    kill: "Kill | None",
    result: dict[str, Any],
    screen: "Screen",
) -> None:
    """The timeline of one push, and the sum of it all."""
    from wakelog_cli.demo_facts import timeline
    from wakelog_cli.demo_screen import tree

    shown = kill.push if kill else progress.pushes[-1]
    screen.say()
    screen.draw(tree(timeline(connection, shown.event_id), shown, progress.workers))
    screen.say()
    count = len(result["pushes"])
    if result["ok"]:
        killed = result["killed"]
        screen.say(
            f"{count} push{'es' * (count > 1)}, {count} status{'es' * (count > 1)}: exactly one each. "
            f"The scan of {shown.commit.short} was taken over {killed['taken_over_after']:.2f} s after its worker was "
            f"killed, and scanned {killed['files_scanned_after']} of {killed['files']} files, not all of them again. "
            f"{result['seconds']:.1f} s so far.",
            "bold green",
        )
        return
    for push in result["pushes"]:
        if push["statuses"] != 1:
            screen.say(f"Expected one status for {push['commit'][:7]}, found {push['statuses']}.", "bold red")
    if kill is None:
        screen.say(
            "Expected to kill a worker in the middle of a scan, but the scan was over first.", "bold red"
        )
    elif kill.taken_over is None:
        screen.say("Expected another worker to take over the interrupted scan, but none did.", "bold red")


def _tell_the_end(result: dict[str, Any], screen: "Screen") -> None:
    screen.say()
    if result["ok"]:
        screen.say(
            f"The past came out right as well: made anew it is the same, the fork has one status and the old workflow "
            f"is as it was, and the log is as sealed. {result['seconds']:.1f} s in all.",
            "bold green",
        )
    else:
        screen.wrong("The past did not come out right; see above.")


def _where(place: Place, *, keep: bool) -> str:
    """What a command needs at its end to go to the demo's database, where that is to be had afterwards."""
    found_by_itself = place.kind == "private" or (place.kind == "named" and os.environ.get("DATABASE_URL"))
    gone = place.kind == "passing" and not keep
    return "" if found_by_itself or gone else f" --database {_address(place)}"


def _next_commands(place: Place, result: dict[str, Any], screen: "Screen", *, keep: bool) -> None:
    stays = keep or place.kind == "named"
    killed, where = result["killed"], _where(place, keep=keep)
    if not stays and place.kind == "passing":
        lines = [
            ("wakelog demo --keep", "again, and then server and workers stay"),
            ("cd && wakelog up", "a server that lasts, in a folder that may be written to"),
            ("wakelog --help", "what else there is"),
        ]
    else:
        psql = f"{psql_program()} {_address(place)}"
        lines = [
            (f"wakelog tail{where}", "the log")
            if stays
            else ("wakelog up", "the server again, which stops now"),
            (psql, "select * from wakelog.lag; -- or wakelog.timeline, wakelog.log_events"),
        ]
        if killed:
            lines.append((f"wakelog timeline {killed['push']}{where}", "the push above, in full"))
        if result["past"]:
            lines.append((f"wakelog workflow show {result['past']['fork']['fork']}{where}", "the fork"))
    screen.say()
    screen.say("Try next, in another terminal:" if keep else "Try next:", "bold")
    for typed, why in lines:
        screen.say(f"  {typed}   # {why}")


def _address(place: Place) -> str:
    """The private server's URL as it is, password included, for it is this person's own; another's without."""
    from wakelog.postgres.connect import safe_url

    if place.kind != "named":
        return place.url
    return '"$DATABASE_URL"' if os.environ.get("DATABASE_URL") else safe_url(place.url)


def _keep(workers: "Workers", screen: "Screen") -> None:
    """Wait for Ctrl-C, which is how this is meant to end."""
    screen.say()
    screen.say("Server and workers keep running. Ctrl-C stops them.", "bold")
    try:
        while True:
            workers.require_running()
            time.sleep(0.2)
    except KeyboardInterrupt:
        screen.say("Stopping.")
