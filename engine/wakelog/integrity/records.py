"""The records of the events that are in the log now, asked for without any function of Wakelog's in the database."""

from collections.abc import Generator
from typing import Any, LiteralString

from psycopg import Connection

# Without scans of whole tables, whatever the statistics say.
_SETTINGS: LiteralString = """
    select set_config('client_encoding', 'UTF8', true), set_config('jit', 'off', true),
           set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('search_path', 'pg_catalog', true)
"""
# The same as sql/functions/event_record.sql.
_RECORDS: LiteralString = """
copy (
    select l.position,
           case when e.seq is not null then pg_catalog.record_send(row(
               1, l.position, l.seq, l.sequenced_at, e.id, e.type, e.source, e.stream, e.version, e.correlation_id,
               e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at, e.deliver_after,
               e.metadata::text, e.payload::text)) end,
           t.type is not distinct from e.type
    from wakelog.log l
    left join wakelog.events e on e.seq = l.seq
    left join wakelog.types t on t.id = l.type_id
    where l.position between %s and %s
    order by l.position
) to stdout (format binary)
"""


def records(connection: Connection[Any], first: int, last: int) -> Generator[tuple[int, bytes | None, bool]]:
    """Each position there is between two, the record of its event (None without one), and whether the log has the
    event under its own type.

    One at a time, so it holds no more than one event; the connection is busy until this ends or is closed.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_SETTINGS)
        with cursor.copy(_RECORDS, [first, last]) as copy:
            copy.set_types(["int8", "bytea", "bool"])
            yield from copy.rows()  # pyright: ignore[reportReturnType]
