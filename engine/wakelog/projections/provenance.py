"""Which events made a row of a projection what it is: found by folding the log again, with an eye on that row.

How this stays correct
----------------------
A trigger on the tables of a build aside notes each time the row is written, and the range of positions that is being
folded then. A range in which it was is folded again in sixteen smaller ones, in the next pass over the log, until each
is a single event. So it comes to the same for a function per event, a function per batch, and statements in SQL.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row, tuple_row

from wakelog.errors import BadInput, WakelogError
from wakelog.postgres import jsonb
from wakelog.projections.builds import Build, call
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.folding import AIM_OF_A_REBUILD, Folding
from wakelog.projections.rebuilding import begin_aside
from wakelog.projections.verifying import tables_in

_PARTS = 16
"""Into so many is a range divided in which the row was written."""

_NOTE: LiteralString = """
    begin
        if (tg_op <> 'INSERT' and to_jsonb(old) @> tg_argv[0]::jsonb)
           or (tg_op <> 'DELETE' and to_jsonb(new) @> tg_argv[0]::jsonb) then
            execute format('insert into %I.wakelog_touched (after, upto, was, now) values ($1, $2, $3, $4)',
                           tg_table_schema)
            using current_setting('wakelog.after')::bigint, current_setting('wakelog.upto')::bigint,
                  case when tg_op <> 'INSERT' and to_jsonb(old) @> tg_argv[0]::jsonb then to_jsonb(old) end,
                  case when tg_op <> 'DELETE' and to_jsonb(new) @> tg_argv[0]::jsonb then to_jsonb(new) end;
        end if;
        return null;
    end
"""
_CAUSES: LiteralString = """
    with recursive chain (id, causation_id, depth) as (
        select e.id, e.causation_id, 0 from wakelog.events e where e.id = %s
        union all
        select e.id, e.causation_id, c.depth + 1
        from chain c join wakelog.events e on e.id = c.causation_id
        where c.depth < 1000
    )
    select l.position, e.id, e.type, e.source, e.recorded_at
    from chain c
    join wakelog.events e on e.id = c.id
    left join wakelog.log l on l.seq = e.seq
    where c.depth > 0
    order by c.depth
"""


@dataclass(frozen=True, slots=True)
class Cause:
    """An event that led to another one."""

    position: int | None
    id: UUID
    type: str
    source: str
    recorded_at: Any


@dataclass(frozen=True, slots=True)
class Touch:
    """An event that wrote the row: what it was and became (None where there was, or is, no such row), as JSON has it;
    and what had caused the event, nearest first.
    """

    position: int
    id: UUID
    type: str
    recorded_at: Any
    was: dict[str, Any] | None
    now: dict[str, Any] | None
    causes: tuple[Cause, ...]


def why(
    connection: Connection[Any],
    url: str,
    name: str,
    definition: ProjectionDefinition | None,
    table: str,
    key: Mapping[str, str],
    upto: int,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Touch]:
    """The events that wrote the row of a projection's table with these values, up to a position, in order.

    The log is folded aside about once for each factor of sixteen between a range and an event, three to five times; and
    nothing is left behind, whatever happens. ``progress`` is told how many positions were folded. A fold that empties
    its table with TRUNCATE goes unnoticed.

    Args:
        key: columns and their values as text, which say which row.

    Raises:
        BadInput: there is no such table or column, or a value is none of the column's type.
        WakelogError: an event cannot be folded; and what `begin_aside` raises.
    """
    ranges, whole = [(0, upto)], True
    while True:
        aside = begin_aside(connection, name, definition, upto)
        try:
            _watch(connection, aside.schema, table, key)
            with closing(open_projection_connection(url, name)) as own:
                _fold(Folding(own, aside.build, definition, aim=AIM_OF_A_REBUILD), ranges, whole, progress)
            noted = _noted(connection, aside)
        finally:
            call(connection, "select wakelog.drop_build(%s)", [aside.build])
        ranges, whole = sorted({(after, to) for after, to, _, _ in noted}), False
        if all(to - after == 1 for after, to in ranges):
            return [_touch(connection, to, was, now) for _, to, was, now in _merged(noted)]


def _watch(connection: Connection[Any], schema: str, table: str, key: Mapping[str, str]) -> None:
    """Have the writes to the row noted, in the same schema, where they are written in the fold's own transaction."""
    names = tables_in(connection, schema)
    if table not in names:
        raise BadInput(f'expected one of the tables {", ".join(names)}, found "{table}"')
    wanted = jsonb.encode(_typed(connection, schema, table, key))
    connection.execute(
        sql.SQL(
            """create table {schema}.wakelog_touched (
                   ordinal bigint generated always as identity, after bigint, upto bigint, was jsonb, now jsonb);
               create function {schema}.wakelog_note() returns trigger language plpgsql as {note};
               create trigger wakelog_note after insert or update or delete on {table}
               for each row execute function {schema}.wakelog_note({key})"""
        ).format(
            schema=sql.Identifier(schema), table=sql.Identifier(schema, table), note=sql.Literal(_NOTE),
            key=sql.Literal(wanted),
        )
    )  # fmt: skip


def _typed(connection: Connection[Any], schema: str, table: str, key: Mapping[str, str]) -> dict[str, Any]:
    """The values as they are in a row's JSON: 7 for "7" in a column of numbers."""
    if not key:
        raise BadInput("expected at least one column and its value, found none")
    columns = dict(
        connection.execute(
            """select a.attname::text, format_type(a.atttypid, a.atttypmod)
               from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = %s and c.relname = %s and a.attnum > 0 and not a.attisdropped order by a.attnum""",
            [schema, table],
        ).fetchall()
    )
    found: dict[str, Any] = {}
    for column, value in key.items():
        if column not in columns:
            raise BadInput(f'expected one of the columns {", ".join(columns)}, found "{column}"')
        try:
            with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                row = cursor.execute(
                    sql.SQL("select to_jsonb(r.{}) from jsonb_populate_record(null::{}, %s) r").format(
                        sql.Identifier(column), sql.Identifier(schema, table)
                    ),
                    [jsonb.encode({column: value})],
                ).fetchone()
        except psycopg.DataError:
            raise BadInput(f"{column}: expected a value of type {columns[column]}, found {value!r}") from None
        found[column] = row and row[0]
    return found


def _fold(
    folding: Folding, ranges: Sequence[tuple[int, int]], whole: bool, progress: Callable[[int], object]
) -> None:
    """Fold everything up to the end of the last range; inside of each, unless it is the whole log, in small pieces."""
    at = 0

    def go(upto: int, window: int | None) -> None:
        nonlocal at
        while at < upto:
            if window is not None:
                folding.window = window
            step = folding.advance(upto)
            progress(step.moved)
            if step.stopped:
                raise WakelogError(
                    f"an event cannot be folded, at position {step.upto}: {step.poison}",
                    hint="Mend the fold, and ask again.",
                )
            if step.upto == at and step.at_end:
                return
            at = step.upto

    for after, upto in ranges:
        go(after, None)
        go(upto, None if whole else max(1, (upto - after) // _PARTS))


def _noted(connection: Connection[Any], aside: Build) -> list[tuple[int, int, Any, Any]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(
            sql.SQL("select after, upto, was, now from {}.wakelog_touched order by ordinal").format(
                sql.Identifier(aside.schema)
            )
        ).fetchall()


def _merged(noted: list[tuple[int, int, Any, Any]]) -> list[tuple[int, int, Any, Any]]:
    """What one event wrote, more than once perhaps, as one: from what was before it to what was after."""
    merged: list[tuple[int, int, Any, Any]] = []
    for after, to, was, now in noted:
        if merged and merged[-1][1] == to:
            merged[-1] = (after, to, merged[-1][2], now)
        else:
            merged.append((after, to, was, now))
    return merged


def _touch(connection: Connection[Any], position: int, was: Any, now: Any) -> Touch:
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(
            """select e.id, e.type, e.recorded_at
               from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position = %s""",
            [position],
        ).fetchone()
    assert row is not None
    with connection.cursor(row_factory=class_row(Cause)) as cursor:
        causes = cursor.execute(_CAUSES, [row[0]]).fetchall()
    id_, type_, recorded_at = row
    return Touch(position, id_, type_, recorded_at, was, now, tuple(causes))
