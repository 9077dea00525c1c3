"""Whether a projection's tables are what folding the log makes of it: folded again aside, and compared row by row.

How this stays correct
----------------------
      fold aside to where the tables are that serve --> see these at one moment --> fold the rest --> compare
      (however long it takes, while they go on)         |
                                                        `--> a snapshot, and a position

One transaction that sees one snapshot reads the tables that serve, and the position they were at in it; an inline
projection has none, so for it that snapshot is taken while appends stand still, and everything committed has its
position. The other tables are folded to exactly that position. The snapshot comes after most of the work, since as long
as it is there no old row of the database goes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import Connection, ServerCursor, sql
from psycopg.rows import scalar_row

from wakelog.errors import WakelogError
from wakelog.postgres.connect import connect
from wakelog.projections.aside import LookAside
from wakelog.projections.builds import Build, build, builds_of, call
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.rebuilding import serving

_AT_A_TIME = 2000
_AGAIN = 0.2
"""Seconds between two tries to have appends stand still, while one of them stays open."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row that is not the same, as text; None on the side that has no such row."""

    table: str
    serving: str | None
    rebuilt: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """At which position the two were compared, how many rows were the same, and the first difference, if any."""

    position: int
    rows: int
    difference: Difference | None


def verify(
    connection: Connection[Any],
    url: str,
    name: str,
    definition: ProjectionDefinition | None,
    fold: Callable[[Build], object],
) -> Verdict:
    """Compare what serves with what ``fold`` makes of the build it is given.

    Raises as `LookAside.make`; WakelogError where the fold stops.
    """
    found = serving(builds_of(connection, [name]) or [], name)
    with LookAside(connection, url, name, definition) as look, ExitStack() as stack:
        aside = look.make(None)
        if (stopped := _fold_to(connection, aside, _position(connection, found), fold)) is not None:
            return stopped
        past = stack.enter_context(connect(url, autocommit=False, application_name="wakelog verify"))
        position = _stand_still(connection, past, found)
        theirs = {
            table: stack.enter_context(_rows(past, found.schema, table))
            for table in tables_in(past, found.schema)
        }
        if build(connection, found.build).state != "serving":
            raise WakelogError(
                f'projection "{name}" was replaced by another version meanwhile',
                hint=f"Again: wakelog projection verify {name}",
            )
        if (stopped := _fold_to(connection, aside, position, fold)) is not None:
            return stopped
        return _compare(connection, theirs, aside.schema, position)


def _position(connection: Connection[Any], found: Build) -> int:
    """Where the tables of a build are, or a little further: the log's end, where they are part of every append."""
    return call(
        connection,
        """select case when %s = 'inline' then wakelog.head() else min(c.position) end
           from wakelog.checkpoints c where c.build_id = %s""",
        [found.mode, found.build],
    )


def _fold_to(
    connection: Connection[Any], aside: Build, upto: int, fold: Callable[[Build], object]
) -> Verdict | None:
    """Fold a build on, to exactly that position; the verdict, where it stopped before."""
    now = build(connection, aside.build)
    if now.position < upto:
        fold(replace(now, upto=upto))
        now = build(connection, aside.build)
    if now.error is None:
        return None
    return Verdict(now.position, 0, Difference("(the fold stopped)", None, now.error))


def _stand_still(connection: Connection[Any], past: Connection[Any], found: Build) -> int:
    """Begin the transaction that goes on seeing what serves as it is now; the position it is at.

    Of an inline projection, that is once no append stays open for longer than a moment.
    """
    past.execute("set transaction isolation level repeatable read, read only")
    if found.mode != "inline":
        row = past.execute(
            "select min(c.position) from wakelog.checkpoints c where c.build_id = %s", [found.build]
        ).fetchone()
        assert row is not None
        return row[0]
    while True:
        try:
            with connection.transaction():
                call(connection, "select wakelog.hold_serving(%s)", [found.build])
                past.execute("select from wakelog.sequencer").fetchone()
                return call(connection, "select s.head from wakelog.sequencer s", [])
        except psycopg.errors.LockNotAvailable:
            time.sleep(_AGAIN)


def tables_in(connection: Connection[Any], schema: str) -> list[str]:
    """The names of the tables in a schema."""
    return [
        name
        for (name,) in connection.execute(
            """select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = %s and c.relkind in ('r', 'p') and not c.relispartition order by c.relname""",
            [schema],
        )
    ]


def _rows(connection: Connection[Any], schema: str, table: str) -> ServerCursor[str]:
    """The rows of a table as text, in the order of their bytes: seen at this moment, read when they are wanted."""
    cursor = connection.cursor(f"{schema}.{table}"[:63], row_factory=scalar_row)
    cursor.itersize = _AT_A_TIME
    return cursor.execute(
        sql.SQL('select (t.*)::text from {} t order by (t.*)::text collate "C"').format(
            sql.Identifier(schema, table)
        )
    )


def _compare(
    connection: Connection[Any], theirs: dict[str, ServerCursor[str]], schema: str, position: int
) -> Verdict:
    same = 0
    with connection.transaction():
        ours = tables_in(connection, schema)
        for table in sorted({*theirs, *ours}):
            if table not in ours or table not in theirs:
                row = "(the table itself)"
                there, here = (row, None) if table in theirs else (None, row)
                return Verdict(position, same, Difference(table, there, here))
            with _rows(connection, schema, table) as right:
                for there, here in _pairs(iter(theirs[table]), iter(right)):
                    if there != here:
                        return Verdict(position, same, Difference(table, there, here))
                    same += 1
    return Verdict(position, same, None)


def _pairs(left: Iterator[str], right: Iterator[str]) -> Iterator[tuple[str | None, str | None]]:
    """Rows of both, side by side, until the first that only one of them has; that one with None for the other."""
    while True:
        there, here = next(left, None), next(right, None)
        if there is None and here is None:
            return
        if there != here and there is not None and here is not None and not _alike(there, here):
            yield (there, None) if there < here else (None, here)
        else:
            yield there, here


def _alike(there: str, here: str) -> bool:
    """Whether these are probably the same row with something changed in it: their first columns are the same."""
    return there.partition(",")[0] == here.partition(",")[0]
