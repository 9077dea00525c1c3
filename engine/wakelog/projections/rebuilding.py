"""Making a projection's tables anew beside those that serve, to take their place.

It is the same fold over the same log into another schema. Everything there is to know about it is in the database, in
the commit that holds the rows: whoever comes next goes on where the last one ended.
"""

import time
from collections.abc import Sequence

import psycopg
from psycopg import Connection

from wakelog.errors import BadInput, UnknownProjection, WakelogError, one_line
from wakelog.projections.builds import Build, build, builds_of, call, register
from wakelog.projections.definition import ProjectionDefinition

PATIENCE = 10.0
"""Seconds within which whoever folds a build lets go of it when a command wants it."""


def begin_rebuild(
    connection: Connection[object], name: str, definition: ProjectionDefinition | None
) -> Build:
    """The build that is to take the place of what serves: one that was begun and not finished, or a new one.

    Workers let go of it, and ``connection`` holds the lock on it until it ends.

    Raises:
        UnknownProjection: there is none of that name.
        BadInput: its fold is in Python and no ``definition`` was given, or an older one than what serves.
        WakelogError: somebody else is at it.
    """
    found = known(connection, name, definition)
    version = definition.version if definition is not None else max(one.version for one in found)
    same = [one for one in found if one.version == version and one.state in ("building", "serving")]
    begun = [one for one in same if one.state == "building"]
    if begun:
        number = begun[-1].build
        call(connection, "select wakelog.attend_build(%s, true)", [number])
        _hold(connection, number, name)
    else:
        number = copy_build(connection, serving(same, name).build)
    return build(connection, number)


def copy_build(connection: Connection[object], source: int) -> int:
    """Another build with the fold and the tables of one, empty; ``connection`` holds the lock on it until it ends."""
    with connection.transaction():
        number = call(connection, "select wakelog.copy_build(%s)", [source])
        call(connection, "select pg_advisory_lock(wakelog.lock_space('projection'), %s)", [number])
        call(connection, "select wakelog.make_tables(%s)", [number])
    return number


def serving(found: Sequence[Build], name: str) -> Build:
    """The one that serves. Raises BadInput where none does yet."""
    for one in found:
        if one.state == "serving":
            return one
    raise BadInput(
        f'projection "{name}": expected tables that serve, found none yet',
        hint="They do once they have been folded to the end of the log: wakelog projection list",
    )


def drop_left_behind(connection: Connection[object], name: str) -> str | None:
    """Drop the tables that are for nobody any more; why not, where a reader still has them in hand."""
    for one in builds_of(connection, [name]):
        if one.left_behind:
            try:
                with connection.transaction():
                    connection.execute("set local lock_timeout = '2s'")
                    connection.execute("select wakelog.drop_build(%s)", [one.build])
            except psycopg.Error as error:
                if connection.closed:
                    raise
                return one_line(error)
    return None


def known(connection: Connection[object], name: str, definition: ProjectionDefinition | None) -> list[Build]:
    """All builds of a projection, once what is declared of it is registered. Raises as `begin_rebuild`."""
    if definition is not None and register(connection, definition) is None:
        raise BadInput(
            f'projection "{name}": expected the version that serves or a newer one, found the older version '
            f"{definition.version} in the application"
        )
    found = builds_of(connection, [name])
    if not found:
        raise UnknownProjection(f'there is no projection "{name}"', hint="See: wakelog projection list")
    if definition is None and found[0].kind != "sql":
        raise BadInput(
            f'projection "{name}" is folded in Python: expected the application that declares it, found none',
            hint="Name it: --app module:app, or --app file.py",
        )
    return found


def _hold(connection: Connection[object], number: int, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not call(connection, "select pg_try_advisory_lock(wakelog.lock_space('projection'), %s)", [number]):
        if time.monotonic() > deadline:
            raise WakelogError(
                f'projection "{name}": expected nobody else to make it anew, found backend '
                f"{build(connection, number).runner_pid} at it",
                hint=f"Watch it: wakelog projection show {name}",
            )
        time.sleep(0.05)
