"""Which events made a row of a projection what it is: found by folding the log again, with an eye on that row.

How this stays correct
----------------------
A trigger on the tables of a build aside notes each time the row is written, and the range of positions that is being
folded then. A range in which it was is folded again in smaller ones, in the next pass over the log, until each is a
single event. So it comes to the same for a function per event, a function per batch, and statements in SQL.

What was noted stays in the database, and is read as it is wanted: a row that a million events made takes no more memory
than one of ten, but for the ranges, of which those that follow each other are one.
"""

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row, tuple_row

from wakelog.errors import BadInput, WakelogError
from wakelog.postgres import jsonb
from wakelog.projections.aside import LookAside
from wakelog.projections.builds import Build
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.folding import AIM_OF_A_REBUILD, FIRST_WINDOW, Folding
from wakelog.projections.verifying import tables_in

_MOST_PARTS = 1024
"""Into so many, at most, is a range divided in which the row was written."""

_AT_A_TIME = 50
"""So many of the events found are in memory."""

# Called where one of the two is the row (_is_it); of an update, the other need not be.
_NOTE: LiteralString = """
    declare
        v_key constant jsonb := tg_argv[0]::jsonb;
        v_was jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
        v_now jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    begin
        if v_key <> (select jsonb_object_agg(k.name, v_was -> k.name) from jsonb_object_keys(v_key) k (name)) then
            v_was := null;
        end if;
        if v_key <> (select jsonb_object_agg(k.name, v_now -> k.name) from jsonb_object_keys(v_key) k (name)) then
            v_now := null;
        end if;
        execute format('insert into %I.wakelog_touched (after, upto, was, now) values ($1, $2, $3, $4)',
                       tg_table_schema)
        using current_setting('wakelog.after')::bigint, current_setting('wakelog.upto')::bigint, v_was, v_now;
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


@dataclass(slots=True)
class _Ranges:
    """Ranges of positions of one size, each of which begins where the one before it ends."""

    after: int
    upto: int
    size: int


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
) -> Generator[Touch]:
    """The events that wrote the row of a projection's table with these values, up to a position, in order.

    Before the first of them the log is folded aside five to ten times: the more events wrote the row, the more often,
    and with less work for each. They are read as they are wanted, from the tables aside, which are dropped with the
    last one, or when the generator is closed (``contextlib.closing``). ``progress`` is told how many positions were
    folded. A fold that empties its table with TRUNCATE goes unnoticed.

    Args:
        connection: in autocommit.
        key: columns and their values as text, which say which row; of a column of JSON the value is JSON.

    Raises, when the first is asked for:
        BadInput: there is no such table or column, or a value is none of the column's type.
        WakelogError: an event cannot be folded; and what `LookAside.make` raises.
    """
    ranges, parts = [_Ranges(0, upto, upto)], 0
    with LookAside(connection, url, name, definition) as look:
        while True:
            aside = look.make(upto)
            _watch(connection, aside.schema, table, key)
            with closing(open_projection_connection(url, name)) as own:
                folding = Folding(own, aside.build, definition, aim=AIM_OF_A_REBUILD)
                between, each = _fold(folding, ranges, parts, progress)
            ranges = _touched(connection, aside)
            if all(one.size == 1 for one in ranges):
                break
            parts = _parts(sum((one.upto - one.after) // one.size for one in ranges), between, each)
            look.drop(aside)
        for position, was, now in _merged(_noted(connection, aside)):
            yield _touch(connection, position, was, now)


def _watch(connection: Connection[Any], schema: str, table: str, key: Mapping[str, str]) -> None:
    """Have the writes to the row noted, in the same schema, where they are written in the fold's own transaction."""
    names = tables_in(connection, schema)
    if table not in names:
        raise BadInput(f'expected one of the tables {", ".join(names)}, found "{table}"')
    wanted = _typed(connection, schema, table, key)
    connection.execute(
        sql.SQL(
            """create table {schema}.wakelog_touched (
                   ordinal bigint generated always as identity primary key,
                   after bigint, upto bigint, was jsonb, now jsonb);
               create function {schema}.wakelog_note() returns trigger language plpgsql as {note};
               create trigger wakelog_note_insert after insert on {table}
               for each row when ({new}) execute function {schema}.wakelog_note({key});
               create trigger wakelog_note_update after update on {table}
               for each row when (({old}) or ({new})) execute function {schema}.wakelog_note({key});
               create trigger wakelog_note_delete after delete on {table}
               for each row when ({old}) execute function {schema}.wakelog_note({key})"""
        ).format(
            schema=sql.Identifier(schema), table=sql.Identifier(schema, table), note=sql.Literal(_NOTE),
            key=sql.Literal(wanted), old=_is_it("old", key, wanted), new=_is_it("new", key, wanted),
        )
    )  # fmt: skip


def _is_it(row: str, columns: Iterable[str], wanted: str) -> sql.Composed:
    """The condition that a trigger's row is the one, which costs the other rows a comparison and no call."""
    return sql.SQL(" and ").join(
        sql.SQL("coalesce(to_jsonb({}), 'null') = {}::jsonb -> {}").format(
            sql.Identifier(row, column), sql.Literal(wanted), sql.Literal(column)
        )
        for column in columns
    )


def _typed(connection: Connection[Any], schema: str, table: str, key: Mapping[str, str]) -> str:
    """The values as they are in a row's JSON, as an object: 7 for "7" in a column of numbers."""
    if not key:
        raise BadInput("expected at least one column and its value, found none")
    columns = {
        column: (type_, is_json)
        for column, type_, is_json in connection.execute(
            """select a.attname::text, format_type(a.atttypid, a.atttypmod),
                      coalesce(nullif(t.typbasetype, 0), t.oid) in ('json'::regtype, 'jsonb'::regtype)
               from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
               join pg_type t on t.oid = a.atttypid
               where n.nspname = %s and c.relname = %s and a.attnum > 0 and not a.attisdropped order by a.attnum""",
            [schema, table],
        ).fetchall()
    }
    found: list[str] = []
    for column, value in key.items():
        if column not in columns:
            raise BadInput(f'expected one of the columns {", ".join(columns)}, found "{column}"')
        type_, is_json = columns[column]
        try:
            with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                row = cursor.execute(
                    sql.SQL(
                        "select to_jsonb(r.{})::text"
                        " from jsonb_populate_record(null::{}, jsonb_build_object(%s::text, {})) r"
                    ).format(
                        sql.Identifier(column), sql.Identifier(schema, table),
                        sql.SQL("%s::jsonb") if is_json else sql.SQL("%s::text"),
                    ),
                    [column, value],
                ).fetchone()  # fmt: skip
        except psycopg.DataError:
            raise BadInput(
                f"{column}: expected a value of type {type_}, found {value!r}",
                hint="Text in JSON has quotes of its own: column='\"text\"'" if is_json else None,
            ) from None
        assert row is not None
        found.append(f"{jsonb.encode(column)}: {row[0]}")
    return f"{{{', '.join(found)}}}"


def _parts(ranges: int, between: float, each: float) -> int:
    """Into how many each of so many ranges is to be divided, where a pass takes ``between`` seconds for what lies
    between them, and ``each`` of the parts takes so many.

    The fewer, the more passes it takes; the more, the more parts are folded in which the row was not written.
    """

    def seconds(parts: int) -> float:
        """Of a pass, by how much nearer it comes."""
        return (between + ranges * parts * each) / math.log(parts)

    return min((2**power for power in range(1, _MOST_PARTS.bit_length())), key=seconds)


def _fold(
    folding: Folding, ranges: Sequence[_Ranges], parts: int, progress: Callable[[int], object]
) -> tuple[float, float]:
    """Fold everything up to the end of the last range; each in so many parts, or, with 0, as the time allows.

    The seconds that everything but the parts took; and one part, or the shortest transaction where there were none.
    """
    began = time.monotonic()
    pieces: list[float] = []
    others: list[float] = []
    at = 0

    def go(upto: int, window: int | None) -> None:
        nonlocal at
        if window is None:
            folding.window = max(folding.window, FIRST_WINDOW)
        while at < upto:
            if window is not None:
                folding.window = window
            step = folding.advance(upto)
            (others if window is None else pieces).append(step.seconds)
            progress(step.moved)
            if step.stopped:
                raise WakelogError(
                    f"an event cannot be folded, at position {step.upto}: {step.poison}",
                    hint="Mend the fold, and ask again.",
                )
            if step.upto == at and step.at_end:
                return
            at = step.upto

    for one in ranges:
        go(one.after, None)
        go(one.upto, -(-one.size // parts) if parts else None)
    took = time.monotonic() - began
    return took - sum(pieces), statistics.median(pieces) if pieces else min(others, default=took)


def _touched(connection: Connection[Any], aside: Build) -> list[_Ranges]:
    """The ranges in which the row was written."""
    found: list[_Ranges] = []
    with connection.transaction(), connection.cursor("wakelog_touched", row_factory=tuple_row) as cursor:
        cursor.execute(
            sql.SQL("select distinct after, upto from {}.wakelog_touched order by after").format(
                sql.Identifier(aside.schema)
            )
        )
        for after, upto in cursor:
            if found and found[-1].upto == after and found[-1].size == upto - after:
                found[-1].upto = upto
            else:
                found.append(_Ranges(after, upto, upto - after))
    return found


def _noted(connection: Connection[Any], aside: Build) -> Iterator[tuple[int, Any, Any]]:
    """Each writing of the row: the position of its event, what it was, and what it became."""
    query = sql.SQL(
        "select ordinal, upto, was, now from {}.wakelog_touched where ordinal > %s order by ordinal limit %s"
    ).format(sql.Identifier(aside.schema))
    last = 0
    while True:
        with connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(query, [last, _AT_A_TIME]).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        for _, upto, was, now in rows:
            yield upto, was, now


def _merged(noted: Iterable[tuple[int, Any, Any]]) -> Iterator[tuple[int, Any, Any]]:
    """What one event wrote, more than once perhaps, as one: from what was before it to what was after."""
    before: tuple[int, Any, Any] | None = None
    for position, was, now in noted:
        if before is not None and before[0] == position:
            was = before[1]
        elif before is not None:
            yield before
        before = (position, was, now)
    if before is not None:
        yield before


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
