"""What is otherwise in one build of a projection than in another: row by row, the same row known by its primary key."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import tuple_row

from wakelog.projections.verifying import tables_in

_AT_A_TIME = 2000


@dataclass(frozen=True, slots=True)
class Change:
    """A row that was added (`was` is None), removed (`now` is None), or changed in the `columns`. Rows are as JSON has
    them, by column.
    """

    table: str
    was: dict[str, Any] | None
    now: dict[str, Any] | None

    @property
    def columns(self) -> list[str]:
        """Where it differs; none for a row that is only in one of them."""
        if self.was is None or self.now is None:
            return []
        return [name for name in self.now if self.now[name] != self.was.get(name)]


def changes_between(connection: Connection[Any], before: str, after: str) -> Iterator[Change]:
    """What is otherwise in the tables of the schema ``after`` than in those of ``before``, by table and key.

    A table without a primary key has only rows added and removed. Read as they are wanted, in one transaction, so not
    more than a few thousand are in memory.
    """
    with connection.transaction():
        for table in sorted({*tables_in(connection, before), *tables_in(connection, after)}):
            with connection.cursor(f"changes of {table}"[:63], row_factory=tuple_row) as cursor:
                cursor.itersize = _AT_A_TIME
                cursor.execute(_query(table, before, after, _key(connection, after, table)))
                for was, now in cursor:
                    yield Change(table, was, now)


def _key(connection: Connection[Any], schema: str, table: str) -> list[str]:
    row = connection.execute(
        """select coalesce(array_agg(a.attname::text order by k.ordinal), '{}')
           from pg_index i
           cross join lateral unnest(i.indkey) with ordinality as k (attnum, ordinal)
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
           where i.indisprimary and k.ordinal <= i.indnkeyatts and i.indrelid = (
               select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = %s and c.relname = %s)""",
        [schema, table],
    ).fetchone()
    assert row is not None
    return row[0]


def _query(table: str, before: str, after: str, key: list[str]) -> sql.Composed:
    names = {"before": sql.Identifier(before, table), "after": sql.Identifier(after, table)}
    if not key:
        return sql.SQL(
            """select r.r, null::jsonb from (
                   select to_jsonb(x.*) r from {before} x except all select to_jsonb(x.*) from {after} x) r
               union all
               select null, r.r from (
                   select to_jsonb(x.*) r from {after} x except all select to_jsonb(x.*) from {before} x) r"""
        ).format(**names)
    columns = [sql.Identifier(name) for name in key]
    return sql.SQL(
        """select case when b.{first} is not null then to_jsonb(b.*) end,
                  case when a.{first} is not null then to_jsonb(a.*) end
           from {before} b full join {after} a using ({key})
           where to_jsonb(b.*) is distinct from to_jsonb(a.*)
           order by {key}"""
    ).format(**names, first=columns[0], key=sql.SQL(", ").join(columns))
