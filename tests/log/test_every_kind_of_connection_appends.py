"""D12: append takes part in the caller's transaction, over any of the six kinds of connection and in plain SQL."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.log.sessions import Sessions, value

from wakelog.errors import BadInput, VersionConflict
from wakelog.log.append import append, append_many
from wakelog.log.event import Event, NewEvent
from wakelog.log.tables import events
from wakelog.postgres.binaries import Binaries

CAUSE = UUID("0190aaaa-0000-7000-8000-000000000001")
SAID: dict[str, Any] = {
    "stream": "order-1",
    "source": "shop/eu",
    "metadata": {"tenant": "ü"},
    "correlation_id": "workflow-1",
    "causation_id": CAUSE,
    "schema_version": 3,
    "occurred_at": datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
}
PAYLOAD = {"text": 'tab\t \\ "quoted" %s :name \N{SNOWMAN}', "list": [1, None, True, 1.5], "big": 2**60}

KINDS = [
    "psycopg",
    "psycopg async",
    "sqlalchemy+psycopg",
    "sqlalchemy+psycopg2",
    "sqlalchemy+psycopg session",
    "sqlalchemy+psycopg2 session",
    "sqlalchemy+psycopg async",
    "sqlalchemy+asyncpg async",
    "sqlalchemy+psycopg async session",
    "sqlalchemy+asyncpg async session",
]


@asynccontextmanager
async def connection_of(kind: str, url: str, **options: Any) -> AsyncIterator[Any]:
    """A connection of a kind, with its `commit` and `rollback`, awaited where need be."""
    driver = url.replace("postgresql://", f"postgresql+{kind.split()[0].removeprefix('sqlalchemy+')}://")
    if kind == "psycopg":
        with psycopg.connect(url, **options) as connection:
            yield connection
    elif kind == "psycopg async":
        async with await psycopg.AsyncConnection.connect(url, **options) as connection:
            yield connection
    elif "async" not in kind.replace("asyncpg", ""):
        engine = sa.create_engine(driver, **options)
        with Session(engine) if kind.endswith("session") else engine.connect() as connection:
            yield connection
        engine.dispose()
    else:
        engine = create_async_engine(driver, **options)
        async with AsyncSession(engine) if kind.endswith("session") else engine.connect() as connection:
            yield connection
        await engine.dispose()


async def done(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


def over(kind: str, url: str, work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with connection_of(kind, url, **options) as connection:
            return await work(connection)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_one_event_is_published_by_the_commit(
    database: str, observer: psycopg.Connection[Any], kind: str
) -> None:
    async def work(connection: Any) -> Event:
        event = await done(append(connection, "order.placed", PAYLOAD, **SAID))
        assert value(observer, "select count(*) from wakelog.events") == 0
        await done(connection.commit())
        return event

    event = over(kind, database, work)
    assert (event.type, event.payload, event.version, event.position) == ("order.placed", PAYLOAD, 1, None)
    assert {name: getattr(event, name) for name in SAID} == SAID
    assert isinstance(event.id, UUID)
    row = observer.execute(
        "select id, payload, metadata, causation_id, occurred_at, recorded_at from wakelog.events"
    ).fetchone()
    assert row == (event.id, PAYLOAD, SAID["metadata"], CAUSE, SAID["occurred_at"], event.recorded_at)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollback_leaves_nothing(database: str, observer: psycopg.Connection[Any], kind: str) -> None:
    async def work(connection: Any) -> None:
        await done(append(connection, "a"))
        assert await done(append_many(connection, [{"type": "b"}] * 3)) == 3
        await done(connection.rollback())

    over(kind, database, work)
    assert value(observer, "select count(*) from wakelog.events") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_many_are_published_by_the_commit(
    database: str, observer: psycopg.Connection[Any], kind: str
) -> None:
    given: list[Any] = [
        {"type": "a", "payload": PAYLOAD},
        NewEvent(type="b", idempotency_key="k"),
        {"type": "c", **SAID},
    ]

    async def work(connection: Any) -> None:
        assert await done(append_many(connection, given)) == 3
        assert value(observer, "select count(*) from wakelog.events") == 0
        await done(connection.commit())

    over(kind, database, work)
    rows = observer.execute(
        "select type, payload, stream, occurred_at from wakelog.events order by seq"
    ).fetchall()
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert rows[0][1] == PAYLOAD
    assert rows[2][2:] == ("order-1", SAID["occurred_at"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_conflict_is_the_same_error_everywhere(database: str, kind: str) -> None:
    async def work(connection: Any) -> None:
        with pytest.raises(VersionConflict, match="at version 0, expected 4"):
            await done(append(connection, "a", stream="s", expected_version=4))

    over(kind, database, work)


@pytest.mark.parametrize("kind", ["psycopg", "psycopg async"])
def test_autocommit_publishes_many_at_once_or_not_at_all(
    database: str, observer: psycopg.Connection[Any], kind: str
) -> None:
    async def work(connection: Any) -> None:
        mixed = [{"type": "a"}, {"type": "b", "stream": "s", "expected_version": 0}]
        with pytest.raises(VersionConflict):
            await done(append_many(connection, [*mixed, *mixed]))
        await done(append(connection, "c"))
        await done(append_many(connection, mixed))

    over(kind, database, work, autocommit=True)
    assert [
        type for (type,) in observer.execute("select type from wakelog.events order by seq").fetchall()
    ] == ["c", "a", "b"]


@pytest.mark.parametrize("kind", ["sqlalchemy+psycopg", "sqlalchemy+psycopg2"])
def test_autocommit_of_sqlalchemy_publishes_too(
    database: str, observer: psycopg.Connection[Any], kind: str
) -> None:
    async def work(connection: Any) -> None:
        append(connection, "a")
        append_many(connection, [{"type": "b"}])

    over(kind, database, work, isolation_level="AUTOCOMMIT")
    assert value(observer, "select count(*) from wakelog.events") == 2


def test_a_savepoint_rolled_back_takes_its_events_along(
    session: Sessions, observer: psycopg.Connection[Any]
) -> None:
    connection = session(autocommit=False)
    append(connection, "kept")
    with connection.transaction(force_rollback=True):
        append(connection, "dropped")
        append_many(connection, [{"type": "dropped"}])
    append_many(connection, [{"type": "kept"}])
    connection.commit()
    assert observer.execute("select distinct type from wakelog.events").fetchall() == [("kept",)]


def test_a_savepoint_of_a_session_does_the_same(database: str, observer: psycopg.Connection[Any]) -> None:
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        append_many(session, [{"type": "kept"}])
        with session.begin_nested() as nested:
            append_many(session, [{"type": "dropped"}])
            append(session, "dropped")
            nested.rollback()
        session.commit()
    engine.dispose()
    assert observer.execute("select type from wakelog.events").fetchall() == [("kept",)]


def test_the_table_is_there_for_sqlalchemy(database: str, observer: psycopg.Connection[Any]) -> None:
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(
            sa.insert(events), [{"type": "a", "payload": {"n": n}, "stream": "s"} for n in range(3)]
        )
        versions = connection.scalars(
            sa.select(events.c.version).where(events.c.payload["n"].as_integer() > 0)
        ).all()
    engine.dispose()
    assert versions == [2, 3]
    columns = observer.execute(
        "select column_name from information_schema.columns where table_schema = 'wakelog' and table_name = 'events'"
    ).fetchall()
    assert {name for (name,) in columns} - {"xid"} == {column.name for column in events.c}


def test_an_insert_in_psql_is_enough(
    binaries: Binaries, database: str, observer: psycopg.Connection[Any]
) -> None:
    said = "insert into wakelog.events (type, payload) values ('push', '{\"after\": \"c0ffee\"}')"
    subprocess.run([binaries.program("psql"), "-X", "-q", "-c", said, database], check=True, env=os.environ)
    assert value(observer, "select payload ->> 'after' from wakelog.events") == "c0ffee"


def test_what_is_no_connection_is_refused_by_name() -> None:
    for connection in (object(), "postgresql://", None):
        with pytest.raises(BadInput, match="expected a psycopg Connection"):
            append(connection, "a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(BadInput, match="expected a psycopg Connection"):
            append_many(connection, [])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_connection_that_returns_dicts_does_not_mind(session: Sessions) -> None:
    connection = session(row_factory=dict_row)
    assert append(connection, "a", [1]).payload == [1]
