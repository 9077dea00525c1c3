"""One fold, written in each way there is, and the same by hand: what each key has come to, and in which order."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from tests.worker.waiting import one, until

TABLES = "create table totals (key text primary key, events bigint not null, chain text not null)"

# The order of the events of a key shows in its chain, so a fold that takes them in another one is found out.
ONE = """
    insert into totals values (%(key)s, 1, md5(%(n)s))
    on conflict (key) do update set events = totals.events + 1, chain = md5(totals.chain || %(n)s)
"""

PER_EVENT = f"""
    TABLES = {TABLES!r}
    ONE = {ONE!r}

    @app.projection("totals", on="counted", tables=TABLES, partition_by="payload.key" OPTIONS)
    def totals(event, connection):
        connection.execute(ONE, {{"key": event.payload["key"], "n": str(event.payload["n"])}})
"""
PER_BATCH = f"""
    TABLES = {TABLES!r}
    ONE = {ONE!r}

    @app.projection("totals", on="counted", tables=TABLES, partition_by="payload.key", batch=True OPTIONS)
    def totals(events, connection):
        with connection.cursor() as cursor:
            cursor.executemany(ONE, [{{"key": e.payload["key"], "n": str(e.payload["n"])}} for e in events])
"""

# Set-based, and no less in order: an aggregate that chains.
SQL_TABLES = "create table totals (key text primary key, events bigint not null, sum bigint not null)"
SQL = """
    insert into totals select payload ->> 'key', count(*), sum((payload ->> 'n')::bigint)
    from new_events where type = 'counted' group by 1
    on conflict (key) do update set events = totals.events + excluded.events, sum = totals.sum + excluded.sum
"""


def app(source: str, **options: Any) -> str:
    """A projection's source with options filled in."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return source.replace(" OPTIONS", given)


def count(connection: psycopg.Connection[Any], numbers: Iterable[int], keys: int = 5) -> None:
    """Append an event for each number, in one transaction, and sequence."""
    with connection.transaction():
        connection.execute(
            """insert into wakelog.events (type, payload)
               select 'counted', jsonb_build_object('key', 'k' || n %% %s, 'n', n) from unnest(%s::int[]) n""",
            [keys, list(numbers)],
        )
    connection.execute("select wakelog.sequence()")


def by_hand(connection: psycopg.Connection[Any], upto: int | None = None) -> list[tuple[str, int, str]]:
    """The chains of the log as it is, or was at a position."""
    state: dict[str, tuple[int, str]] = {}
    for payload in _payloads(connection, upto):
        events, chain = state.get(payload["key"], (0, ""))
        state[payload["key"]] = (
            events + 1, hashlib.md5((chain + str(payload["n"])).encode(), usedforsecurity=False).hexdigest(),
        )  # fmt: skip
    return sorted((key, *rest) for key, rest in state.items())


def sums_by_hand(connection: psycopg.Connection[Any], upto: int | None = None) -> list[tuple[str, int, int]]:
    """The sums of the log as it is, or was at a position."""
    state: dict[str, tuple[int, int]] = {}
    for payload in _payloads(connection, upto):
        events, total = state.get(payload["key"], (0, 0))
        state[payload["key"]] = (events + 1, total + payload["n"])
    return sorted((key, *rest) for key, rest in state.items())


def rows(connection: psycopg.Connection[Any], schema: str = "totals") -> Sequence[tuple[Any, ...]]:
    """What a projection has made of it."""
    return connection.execute(
        sql.SQL("select * from {}.totals order by key").format(sql.Identifier(schema))
    ).fetchall()


def caught_up(connection: psycopg.Connection[Any], projection: str = "totals", version: int = 1) -> bool:
    """Whether that version serves, and is where the log is."""
    return one(
        connection,
        """select coalesce(bool_or(behind = 0), false) from wakelog.projection_status
           where projection = %s and state = 'serving' and version = %s""",
        projection, version,
    )  # fmt: skip


def until_caught_up(connection: psycopg.Connection[Any], version: int = 1, within: float = 20) -> None:
    """Wait for the projection to serve and to be where the log is, with nothing left to sequence."""

    def done() -> bool:
        nothing_left = one(connection, "select not exists (select from wakelog.without_position(1))")
        return nothing_left and caught_up(connection, version=version)

    until(done, within=within)


def _payloads(connection: psycopg.Connection[Any], upto: int | None) -> list[dict[str, Any]]:
    return [
        payload
        for (payload,) in connection.execute(
            """select payload from wakelog.log_events
               where type = 'counted' and position <= coalesce(%s, 9223372036854775807) order by position""",
            [upto],
        )
    ]
