"""What is in the tables of a build, for those who look at the past."""

from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from wakelog.projections.verifying import tables_in


def tables_of(connection: Connection[Any], schema: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table in a schema, ordered by their columns as text. They are all held in memory."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in tables_in(connection, schema):
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                sql.SQL('select t.* from {} t order by (t.*)::text collate "C"').format(
                    sql.Identifier(schema, table)
                )
            )
            found[table] = cursor.fetchall()
    return found
