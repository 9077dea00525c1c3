"""read, read_stream and position_at: any part of the past, in order, over any connection."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from tests.log.sessions import Sessions, insert

from wakelog.errors import BadInput
from wakelog.log.append import append, append_many
from wakelog.log.event import Event
from wakelog.log.read import head, position_at, read, read_stream, sequence

Connection = psycopg.Connection[Any]


def payloads(connection: Connection, **options: Any) -> list[Any]:
    return [event.payload for event in read(connection, **options)]


@pytest.fixture
def ten(observer: Connection) -> Connection:
    """Ten events, numbered by their positions."""
    types = ["order.placed", "order.paid", "mail.sent", "order.item.added", "push"]
    append_many(
        observer,
        [
            {"type": types[n % 5], "payload": n + 1, "correlation_id": f"c{n % 3}", "stream": f"s{n % 2}"}
            for n in range(10)
        ],
    )
    assert sequence(observer) == 10
    return observer


def test_from_anywhere_to_anywhere(ten: Connection) -> None:
    assert payloads(ten) == list(range(1, 11))
    assert payloads(ten, after=7) == [8, 9, 10]
    assert payloads(ten, from_position=7) == [7, 8, 9, 10]
    assert payloads(ten, after=2, upto=4) == [3, 4]
    assert payloads(ten, after=2, limit=3) == [3, 4, 5]
    assert payloads(ten, limit=0) == []
    assert payloads(ten, after=10) == []
    with pytest.raises(BadInput, match="one of after and from_position"):
        read(ten, after=1, from_position=1)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("push", [5, 10]),
        ("order.*", [1, 2, 6, 7]),
        ("order.#", [1, 2, 4, 6, 7, 9]),
        (["mail.sent", "push"], [3, 5, 8, 10]),
        ("#", list(range(1, 11))),
        (["#", "push"], list(range(1, 11))),
        ("*.*.added", [4, 9]),
        ("nothing", []),
    ],
)
def test_by_type(ten: Connection, types: Any, expected: list[int]) -> None:
    assert payloads(ten, types=types) == expected


def test_by_stream_and_correlation(ten: Connection) -> None:
    assert payloads(ten, stream="s1") == [2, 4, 6, 8, 10]
    assert payloads(ten, correlation_id="c0") == [1, 4, 7, 10]
    assert payloads(ten, correlation_id="c0", stream="s1", types="order.#", after=4) == []
    assert payloads(ten, correlation_id="c0", stream="s1") == [4, 10]


def test_an_event_without_a_correlation_begins_one(observer: Connection) -> None:
    first = append(observer, "a")
    second = append(observer, "b", correlation_id=first.correlation_id)
    sequence(observer)
    assert [event.id for event in read(observer, correlation_id=str(first.id))] == [first.id, second.id]


def test_more_than_one_batch(observer: Connection) -> None:
    append_many(observer, ({"type": f"t{n % 7}", "payload": n, "stream": "s"} for n in range(2_500)))
    sequence(observer)
    assert payloads(observer) == list(range(2_500))
    assert payloads(observer, types="t3") == [n for n in range(2_500) if n % 7 == 3]
    assert payloads(observer, limit=2_200, after=100) == list(range(100, 2_300))
    assert [event.version for event in read_stream(observer, "s")] == list(range(1, 2_501))
    assert [event.version for event in read_stream(observer, "s", after_version=2_000, limit=3)] == [
        2001,
        2002,
        2003,
    ]


def test_a_reading_ends_where_the_log_ended_when_it_began(observer: Connection) -> None:
    append_many(observer, [{"type": "a"}] * 3)
    sequence(observer)
    seen = 0
    for _ in read(observer):
        append(observer, "a")
        sequence(observer)
        seen += 1
    assert seen == 3


def test_a_read_event_is_the_appended_one_with_its_position(observer: Connection) -> None:
    appended = append(observer, "a", {"x": [1]}, stream="s", metadata={"m": 1}, idempotency_key="k")
    sequence(observer)
    (event,) = read(observer)
    assert event.position == 1
    names = [name for name in Event.__dataclass_fields__ if name != "position"]
    assert [getattr(event, name) for name in names] == [getattr(appended, name) for name in names]
    with pytest.raises(AttributeError):
        event.type = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_stream_shows_what_was_appended_a_moment_ago(session: Sessions) -> None:
    connection = session(autocommit=False)
    append(connection, "a", stream="s")
    assert [(event.version, event.position) for event in read_stream(connection, "s")] == [(1, None)]
    assert list(read_stream(connection, "other")) == []


def test_a_moment_has_a_position(observer: Connection) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert position_at(observer, before) == 0
    for hours in (1, 2, 3):
        observer.execute(f"set wakelog.clock_offset = '{hours} hours'".encode())
        insert(observer)
        insert(observer)
        sequence(observer)
    now = datetime.now(UTC)
    found = [position_at(observer, now + timedelta(hours=hours)) for hours in (0.5, 1.5, 2.5, 3.5)]
    assert found == [0, 2, 4, 6]
    with pytest.raises(BadInput, match="with a zone"):
        position_at(observer, datetime(2020, 1, 1))  # noqa: DTZ001


def test_positions_do_not_go_back_in_time_when_the_clock_does(observer: Connection) -> None:
    observer.execute("set wakelog.clock_offset = '1 hour'")
    insert(observer)
    sequence(observer)
    observer.execute("set wakelog.clock_offset = '-1 hour'")
    insert(observer)
    sequence(observer)
    assert position_at(observer, datetime.now(UTC)) == 0
    assert position_at(observer, datetime.now(UTC) + timedelta(hours=1.1)) == 2


def test_over_every_other_kind_of_connection(database: str, ten: Connection) -> None:
    expected = list(read(ten, types="order.#"))

    async def read_async() -> None:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            assert [event async for event in read(connection, types="order.#")] == expected
            assert [event.payload async for event in read_stream(connection, "s0")] == [1, 3, 5, 7, 9]
            assert await head(connection) == 10
            assert await position_at(connection, datetime.now(UTC)) == 10
        for driver in ("psycopg", "asyncpg"):
            engine = create_async_engine(database.replace("postgresql:", f"postgresql+{driver}:"))
            async with engine.connect() as connection:
                assert [event async for event in read(connection, types="order.#")] == expected
            await engine.dispose()

    asyncio.run(read_async())
    for driver in ("psycopg", "psycopg2"):
        engine = sa.create_engine(database.replace("postgresql:", f"postgresql+{driver}:"))
        with engine.connect() as connection:
            assert list(read(connection, types="order.#")) == expected
            assert head(connection) == 10
        engine.dispose()
