"""What tests of the worker ask the database directly, without a worker process."""

from collections.abc import Iterable
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb
from tests.worker.waiting import one


def register(connection: Connection[Any], agent: str, *types: str, **options: Any) -> None:
    """Make an agent known, with the options of wakelog.register_agent."""
    options = {"types": list(types) or ["#"], "start": "beginning", **options}
    connection.execute("select wakelog.register_agent(%s, %s)", [agent, Jsonb(options)])


def append(connection: Connection[Any], *types: str, **columns: Any) -> None:
    """Append an event of each type, with the arguments of wakelog.append."""
    for type_ in types:
        connection.execute(
            """select wakelog.append(p_type => %s, p_payload => %s, p_source => %s, p_metadata => %s,
                                     p_correlation_id => %s, p_stream => %s)""",
            [
                type_, Jsonb(columns.get("payload", {})), columns.get("source", ""),
                Jsonb(columns.get("metadata", {})), columns.get("correlation_id"), columns.get("stream"),
            ],
        )  # fmt: skip


def rows_read(connection: Connection[Any], *tables: str) -> int:
    """How many rows of our tables this session has read, in this transaction and perhaps some before it."""
    return one(
        connection,
        """select coalesce(sum(s.seq_tup_read + s.idx_tup_fetch), 0)::bigint from pg_stat_xact_user_tables s
           where s.schemaname = 'wakelog' and s.relname = any (%s)""",
        list(tables),
    )


def sequence(connection: Connection[Any]) -> None:
    """Give everything that is committed its position."""
    connection.execute("select wakelog.sequence()")


def start_worker(connection: Connection[Any], *agents: str, locked: bool = True) -> int:
    """Register this session as a worker."""
    return one(connection, "select wakelog.start_worker('a test', %s, %s)", list(agents), locked)


def claim(
    connection: Connection[Any], agent: str, worker: int, limit: int = 10000, lease: float = 30
) -> list[tuple[int, int, str]]:
    """Claim; the position, attempt and type of each delivery."""
    return connection.execute(
        "select position, attempt, type from wakelog.claim(%s, %s, %s, make_interval(secs => %s))",
        [agent, worker, limit, lease],
    ).fetchall()  # pyright: ignore[reportReturnType]


def ack(
    connection: Connection[Any], agent: str, worker: int, deliveries: Iterable[tuple[int, int, str]]
) -> None:
    """Finish deliveries."""
    for position, attempt, _ in deliveries:
        connection.execute("select wakelog.ack(%s, %s, %s, %s)", [agent, position, worker, attempt])


def fail(
    connection: Connection[Any],
    agent: str,
    worker: int,
    delivery: tuple[int, int, str],
    *,
    final: bool = False,
) -> None:
    """Record a failed attempt, to be tried again in an hour unless final."""
    connection.execute(
        "select wakelog.fail(%s, %s, %s, %s, 'no luck', null, '1 hour', %s)",
        [agent, delivery[0], worker, delivery[1], final],
    )
