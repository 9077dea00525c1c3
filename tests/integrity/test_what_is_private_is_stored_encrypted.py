"""What is private is encrypted before it is sent, however it is appended, and nowhere in the database as it is."""

import asyncio
import sys

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from tests.integrity.subject import ADA, GONE, PRIVATE, Connection, append_ada, forget, payloads
from tests.log.sessions import value

from wakelog import (
    FORGOTTEN,
    BadInput,
    NewEvent,
    SubjectForgotten,
    append,
    append_many,
    read_stream,
)
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import install
from wakelog.privacy import envelope
from wakelog.testing import ThrowawayPostgres

# With its quotes, which what is encrypted cannot have by chance.
NAMES = """select count(*) from wakelog.events where payload::text like '%"Ada"%'"""


def test_in_the_database_there_is_only_what_is_encrypted(connection: Connection) -> None:
    append_ada(connection)
    text: str = value(connection, "select string_agg(e::text, '') from wakelog.events e")
    assert "London" in text
    assert '"Ada"' not in text
    assert "James" not in text
    assert value(connection, "select payload #>> '{name,$private,key}' from wakelog.events") == "1"
    assert value(connection, "select subject from wakelog.subjects where id = 1") == "customer-17"


def test_by_every_kind_of_connection(connection: Connection, database: str) -> None:
    driverless = database.removeprefix("postgresql://")
    for driver in ("psycopg", "psycopg2"):
        engine = sqlalchemy.create_engine(f"postgresql+{driver}://{driverless}")
        with engine.begin() as one_of_sqlalchemy:
            assert append_ada(one_of_sqlalchemy).payload == ADA
            assert (
                append_many(one_of_sqlalchemy, [{"type": "a", "payload": [1], "private": "customer-17"}]) == 1
            )
        with engine.begin() as one_of_sqlalchemy:
            assert [event.payload for event in read_stream(one_of_sqlalchemy, "customer-17")][-1] == ADA
        engine.dispose()

    async def over_asyncio() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            assert (await append_ada(own)).payload == ADA
            assert await append_many(own, [{"type": "a", "payload": [1], "private": "customer-17"}]) == 1
        engine = create_async_engine(f"postgresql+asyncpg://{driverless}")
        async with engine.begin() as one_of_sqlalchemy:
            assert (await append_ada(one_of_sqlalchemy)).payload == ADA
            found = [event.payload async for event in read_stream(one_of_sqlalchemy, "customer-17")]
            assert found == [ADA] * 4
        await engine.dispose()

    asyncio.run(over_asyncio())
    everything = payloads(connection)
    assert (everything.count(ADA), everything.count([1])) == (4, 3)
    forget(connection)
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{driverless}")
    with engine.begin() as one_of_sqlalchemy:
        assert [event.payload for event in read_stream(one_of_sqlalchemy, "customer-17")] == [GONE] * 4
    engine.dispose()


def test_a_connection_in_autocommit_makes_one_transaction_of_it(
    connection: Connection, database: str
) -> None:
    """Otherwise a subject could be forgotten between the asking for its key and the append."""
    append_ada(connection)

    async def over_asyncio() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as own:
            await append_ada(own)

    asyncio.run(over_asyncio())
    # The lock on the subject is of the transaction that appended.
    locked, appended = connection.execute(
        "select s.xmax::text, (select xid::text from wakelog.events order by seq desc limit 1) from wakelog.subjects s"
    ).fetchone() or (None, "")
    assert locked == appended


def test_many_at_once_keep_their_order_and_are_all_or_none(connection: Connection) -> None:
    events = [
        {
            "type": "a",
            "payload": {"n": n, "name": "Ada"},
            "private": {"name": f"customer-{n % 50}"} if n % 3 else None,
        }
        for n in range(700)
    ]
    assert append_many(connection, events) == 700
    assert payloads(connection) == [event["payload"] for event in events]
    assert value(connection, NAMES) == 234
    forget(connection, "customer-7")
    with pytest.raises(SubjectForgotten):
        append_many(connection, events)
    assert value(connection, "select count(*) from wakelog.events") == 700
    gone = [n for n, payload in enumerate(payloads(connection)) if payload["name"] is FORGOTTEN]
    assert gone == [n for n in range(700) if n % 3 and n % 50 == 7]


def test_a_repeated_key_returns_the_original_as_it_was(connection: Connection) -> None:
    first = append_ada(connection, idempotency_key="k")
    again = append(
        connection, "customer.joined", {"name": "x"}, idempotency_key="k", private={"name": "customer-17"}
    )
    assert (again.id, again.payload) == (first.id, ADA)
    plain = append(connection, "customer.joined", {}, idempotency_key="k")
    assert plain.payload == ADA


def test_private_events_are_said_in_every_way(connection: Connection) -> None:
    event = NewEvent(type="a", payload={"name": "Ada"}, private={"name": "customer-1"})
    assert append_many(connection, [event, {"type": "b", "payload": {"name": "Ada"}}]) == 2
    assert payloads(connection) == [{"name": "Ada"}] * 2
    assert value(connection, NAMES) == 1


def test_without_the_library_the_rest_works(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    append_ada(connection)
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(BadInput, match=r"pip install 'wakelog\[forget\]'"):
        append_ada(connection)
    (payload,) = payloads(connection)
    assert envelope.is_envelope(payload["name"])


def test_neither_keys_nor_values_are_in_the_servers_log(binaries: Binaries) -> None:
    """Which tells every statement, with its parameters."""
    told = {"log_statement": "all", "log_min_duration_statement": "0", "log_parameter_max_length": "-1"}
    with ThrowawayPostgres(binaries, settings=told) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            install(connection)
            append_ada(connection)
            append_many(connection, [{"type": "a", "payload": ADA, "private": PRIVATE}] * 3)
            payloads(connection)
            key = value(connection, "select key from wakelog.subject_keys")
            connection.execute("analyze wakelog.subject_keys")
            kept = value(
                connection,
                "select count(*) from pg_stats where tablename = 'subject_keys' and attname = 'key'",
            )
            forget(connection)
        log = server.log
    assert "keys_to_write" in log
    assert "customer.joined" in log
    assert "Ada" not in log
    assert "St James" not in log
    assert key.hex() not in log
    assert kept == 0
