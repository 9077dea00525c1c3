"""Folding a build of a projection from the command line: with progress, over processes, to be gone on with."""

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.interruption import Interruption
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.projections.builds import Build
    from wakelog.projections.definition import ProjectionDefinition
    from wakelog.projections.folding import Folding, Step
    from wakelog.projections.verifying import Verdict


@dataclass(frozen=True)
class Folded:
    """How far a build came, of how many positions in how many seconds, and whether it serves now."""

    position: int
    events: int
    seconds: float
    served: bool


def definition_of(app: str | None, name: str) -> "ProjectionDefinition | None":
    """What an application says of a projection; None where no application is named. Raises `Failure` (4)."""
    if app is None:
        return None
    from wakelog.agents.load import load_app
    from wakelog.projections.snapshots import kept

    declared = load_app(app).projections
    if name not in declared:
        raise Failure(
            f'"{app}" declares no projection "{name}"; it declares: {", ".join(declared) or "none"}',
            ExitCode.UNKNOWN_NAME,
            next_command="see: wakelog projection list",
        )
    definition = kept(declared[name])
    if definition is None:
        raise Failure(
            f'projection "{name}" is live and has no snapshots: there is nothing of it in the database',
            ExitCode.BAD_INPUT,
            next_command="see a stream under it: wakelog stream show STREAM --app " + app,
        )
    return definition


def finish_rebuild(
    connection: "Connection[Any]",
    url: str,
    build: "Build",
    definition: "ProjectionDefinition | None",
    app: str | None,
    processes: int,
) -> tuple[Folded, str | None]:
    """Fold a build that was begun to take the place of what serves, and let it; why old tables are still there, if so.

    Raises as `fold_build`; what was folded by then is kept.
    """
    from wakelog.projections.rebuilding import drop_left_behind

    if build.error is not None:
        value(connection, "select wakelog.resume_projection(%(name)s)", {"name": build.projection})
    folded = fold_build(connection, url, build, definition, app, processes, serve=True)
    if folded.served:
        return folded, drop_left_behind(connection, build.projection)
    value(connection, "select wakelog.attend_build(%(build)s, false)", {"build": build.build})
    return folded, None


def as_it_was(
    connection: "Connection[Any]",
    url: str,
    name: str,
    definition: "ProjectionDefinition | None",
    app: str | None,
    upto: int,
    into: str | None = None,
) -> "dict[str, list[dict[str, Any]]] | None":
    """The rows of every table of a projection as of a position; with `into` they are left in that schema: None.

    Raises as `fold_build`; nothing is left behind then.
    """
    from wakelog.projections.aside import LookAside
    from wakelog.projections.looking_back import tables_of

    with LookAside(connection, url, name, definition) as look:
        build = look.make(upto, into)
        fold_build(connection, url, build, definition, app, 1, serve=False)
        if into is None:
            return tables_of(connection, build.schema)
        look.leave(build)
        return None


def compare(
    connection: "Connection[Any]",
    url: str,
    name: str,
    definition: "ProjectionDefinition | None",
    app: str | None,
    processes: int,
) -> "Verdict":
    """Fold the log again aside, and compare with what serves, row by row at one position. Raises as `fold_build`."""
    from wakelog.projections.verifying import verify

    return verify(
        connection, url, name, definition,
        lambda build: fold_build(connection, url, build, definition, app, processes, serve=False),
    )  # fmt: skip


def fold_build(
    connection: "Connection[Any]",
    url: str,
    build: "Build",
    definition: "ProjectionDefinition | None",
    app: str | None,
    processes: int,
    *,
    serve: bool,
) -> Folded:
    """Fold a build to its bound, or to the end of the log, over so many processes; with `serve`, let it take over.

    Raises KeyboardInterrupt between two transactions, and `Failure` where it stops over an event.
    """
    from wakelog.projections.connection import open_projection_connection
    from wakelog.projections.folding import AIM_OF_A_REBUILD, Folding

    head = value(connection, "select head from wakelog.sequencer")
    upto = head if build.upto is None else build.upto
    parts = value(connection, "select wakelog.split_build(%(b)s, %(n)s)", {"b": build.build, "n": processes})
    with (
        Interruption() as interruption,
        Progress("folding", "positions", max(upto - build.position, 0)) as progress,
    ):
        if parts > 1:
            _fold_in_parts(connection, url, build, definition, app, parts, upto, progress, interruption)
        with closing(open_projection_connection(url, build.projection)) as own:
            folding = Folding(own, build.build, definition, aim=AIM_OF_A_REBUILD)
            served = False
            while True:
                with interruption.put_off():
                    step = folding.advance(build.upto)
                _count(step, progress)
                # Appends may be faster than the fold: to take over, it is enough to be where the other one is.
                if serve and folding.may_serve(step):
                    with interruption.put_off():
                        step, served = _serve(folding)
                    _count(step, progress)
                    if not step.narrowing:
                        break
                elif step.at_end:
                    break
    return Folded(step.upto, progress.count, progress.seconds, served)


def _count(step: "Step", progress: Progress | None) -> None:
    if progress is not None:
        progress.advance(step.moved, step.moved)
    if step.stopped:
        raise Failure(
            f"an event cannot be folded, at position {step.upto}: {step.poison}",
            next_command="mend the fold or the event's version of it, and type the same command again",
        )


def _serve(folding: "Folding") -> "tuple[Step, bool]":
    """Take over. Where appends do not stand still for it at this moment, again in another."""
    import psycopg

    while True:
        try:
            return folding.catch_up_and_serve()
        except psycopg.errors.LockNotAvailable:
            time.sleep(0.2)
            folding.advance()


def _fold_in_parts(
    connection: "Connection[Any]",
    url: str,
    build: "Build",
    definition: "ProjectionDefinition | None",
    app: str | None,
    parts: int,
    upto: int,
    progress: Progress,
    interruption: Interruption,
) -> None:
    """The first part here, each other one in a process of its own; then one checkpoint of all of them."""
    from wakelog.projections.connection import open_projection_connection
    from wakelog.projections.folding import AIM_OF_A_REBUILD, Folding
    from wakelog.worker.projecting import Parts

    with (
        Parts(url, app or "", build.projection, build.build, range(1, parts), upto) as others,
        closing(open_projection_connection(url, build.projection)) as own,
    ):
        folding = Folding(own, build.build, definition, aim=AIM_OF_A_REBUILD)
        here = there = False
        while not (here and there):
            if not here:
                with interruption.put_off():
                    step = folding.advance(upto)
                _count(step, None)
                here = step.upto >= upto
            there = others.ended(0.1 if here else 0.0)
            # Each part goes through the whole log, so how far they are is how far each is, on average.
            position = value(
                connection,
                "select (sum(position) / count(*))::bigint from wakelog.checkpoints where build_id = %(b)s",
                {"b": build.build},
            )
            moved = position - build.position - progress.count
            progress.advance(moved, moved)
    with interruption.put_off():
        value(connection, "select wakelog.join_parts(%(b)s)", {"b": build.build})
