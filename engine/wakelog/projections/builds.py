"""What is built of projections: registering them, and asking the database how they stand."""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, tuple_row

from wakelog.errors import BadInput, UnknownProjection, translate
from wakelog.postgres import jsonb
from wakelog.projections.definition import ProjectionDefinition

_STATUS: LiteralString = """
    select s.projection, s.build, s.version, s.state, s.mode, s.kind, s.schema, s.position, s.head, s.behind,
           s.attended, s.parts, s.upto, s.paused_at is not null as paused, s.error,
           s.failed_position, s.runner_pid, s.skipped
    from wakelog.projection_status s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of a projection, as the view wakelog.projection_status has it."""

    projection: str
    build: int
    version: int
    state: str
    mode: str
    kind: str
    schema: str
    position: int
    head: int
    behind: int
    attended: bool
    parts: int
    upto: int | None
    paused: bool
    error: str | None
    failed_position: int | None
    runner_pid: int | None
    skipped: int

    @property
    def left_behind(self) -> bool:
        """Whether its tables are for nobody any more: another's took their place, or a command died over them.

        A command holds the lock on what it makes aside from before anybody sees it (aside.py), so without one there is
        none.
        """
        return self.state == "retired" or (self.state == "aside" and self.runner_pid is None)


def register(connection: Connection[Any], definition: ProjectionDefinition) -> int | None:
    """Make a projection known, and its tables where they are not there yet; the build to fold.

    None where a newer version serves, and this one is to be left alone. ``connection`` is in autocommit.

    Raises:
        BadInput: it was declared otherwise in the same version, or its SQL is refused.
    """
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(
                "select wakelog.register_projection(%s, %s)",
                [definition.name, jsonb.encode(definition.options())],
            )
            row = cursor.fetchone()
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        known = translate(error)
        if known is not None:
            raise known from None
        hint = "Inline projections are for the owner of wakelog.events to declare." if (
            definition.mode == "inline" and isinstance(error, psycopg.errors.InsufficientPrivilege)
        ) else None  # fmt: skip
        raise BadInput(f'projection "{definition.name}": {error.diag.message_primary}', hint=hint) from None
    return row[0] if row else None


def builds_of(connection: Connection[Any], names: list[str]) -> list[Build]:
    """All builds of some projections."""
    with connection.cursor(row_factory=class_row(Build)) as cursor:
        return cursor.execute(_STATUS + "where s.projection = any (%s)", [names]).fetchall()


def build(connection: Connection[Any], number: int) -> Build:
    """One build. Raises UnknownProjection where it is gone."""
    with connection.cursor(row_factory=class_row(Build)) as cursor:
        found = cursor.execute(_STATUS + "where s.build = %s", [number]).fetchone()
    if found is None:
        raise UnknownProjection(f"build {number} is gone", hint="See: wakelog projection list")
    return found


def call(connection: Connection[Any], query: LiteralString, parameters: list[Any]) -> Any:
    """The one value a statement answers with. Raises what `translate` makes of the database's errors."""
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(query, parameters).fetchone()
    except psycopg.Error as error:
        raise translate(error) or error from None
    return row[0] if row else None
