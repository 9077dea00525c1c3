"""Where the demo's agent `status` collects outcomes: the schema ci, made, or made anew beside an older demo's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import rows, value
from wakelog_cli.demo_repository import examples_folder
from wakelog_cli.failures import ExitCode, Failure

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "ci"
SHAPES = {
    "pushes": "workflow text, commit text; by workflow",
    "results": "workflow text, check text, outcome text, summary text; by workflow, check",
}
"""As examples/ci_tables.sql has them: the columns that come first, and the key."""

_SHAPE = """
    select c.relname as name,
           (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
           (select string_agg(a.attname, ', ' order by k.ordinal)
            from pg_index i
            cross join lateral unnest(i.indkey) with ordinality as k (attnum, ordinal)
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where i.indrelid = c.oid and i.indisprimary) as key
    from pg_class c
    where c.relnamespace = to_regnamespace(%(schema)s) and c.relname = any (%(names)s)
"""
_OTHERS = """
    select exists (
        select from pg_class c
        where c.relnamespace = n.oid and c.relkind not in ('i', 'I', 't') and c.relname <> all (%(names)s)
        union all select from pg_proc p where p.pronamespace = n.oid)
    from pg_namespace n where n.nspname = %(schema)s
"""


def make_collecting_tables(
    connection: "Connection[Any]", *, ours: bool, say: Callable[[str], object]
) -> None:
    """Make the tables where they are missing.

    Where an older demo has left others of that name in a database that is the demo's own (``ours``), and nothing but
    them is in the schema, it is renamed first, and said so: nothing is dropped. Raises `Failure` (5) otherwise.
    """
    wrong = _wrong(connection)
    if wrong:
        asked = {"schema": SCHEMA, "names": list(SHAPES)}
        if not ours or value(connection, _OTHERS, asked):
            raise _otherwise(*wrong[0])
        say(f"The tables of an older demo are kept, in the schema {_rename(connection)}; new ones are made.")
    connection.execute((examples_folder() / "ci_tables.sql").read_bytes())


def _wrong(connection: "Connection[Any]") -> list[tuple[str, str]]:
    """The tables there are of another shape, and that shape."""
    found: list[tuple[str, str]] = []
    for one in rows(connection, _SHAPE, {"schema": SCHEMA, "names": list(SHAPES)}):
        columns, _, key = SHAPES[one["name"]].partition("; by ")
        # More columns than are written to do no harm.
        if not f"{one['columns']}, ".startswith(f"{columns}, ") or one["key"] != key:
            found.append((one["name"], f"{one['columns']}; by {one['key'] or 'nothing'}"))
    return sorted(found)


def _rename(connection: "Connection[Any]") -> str:
    """Give the schema a name that nobody has; that name."""
    from psycopg import sql

    number = 1
    while value(connection, "select to_regnamespace(%(n)s)", {"n": f"{SCHEMA}_before_{number}"}) is not None:
        number += 1
    name = f"{SCHEMA}_before_{number}"
    connection.execute(
        sql.SQL("alter schema {} rename to {}").format(sql.Identifier(SCHEMA), sql.Identifier(name))
    )
    return name


def _otherwise(table: str, found: str) -> Failure:
    return Failure(
        f"expected the demo's own table {SCHEMA}.{table} ({SHAPES[table]}), or none of that name, found another one "
        f"({found}); use another database, or rename the schema, which keeps what is in it",
        ExitCode.CONFLICT,
        next_command=f"in psql: alter schema {SCHEMA} rename to {SCHEMA}_before",
    )
