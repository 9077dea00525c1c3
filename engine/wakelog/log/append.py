"""Appending events, in the caller's transaction: commit publishes them, rollback leaves nothing."""

from collections.abc import Awaitable, Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Literal, overload
from uuid import UUID

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from pydantic import BaseModel

from wakelog.durations import Duration, seconds
from wakelog.errors import BadInput
from wakelog.log.bulk import Shape, copy_blocks, copy_statement, shape
from wakelog.log.connections import (
    Rows,
    Statement,
    converse,
    is_async,
    is_session,
    is_sqlalchemy,
    run,
    translated,
    unknown,
)
from wakelog.log.event import COLUMNS, Event, NewEvent
from wakelog.log.private import events_of, hidden
from wakelog.log.values import json_text

if TYPE_CHECKING:
    from wakelog.log.connections import AsyncConnection, SyncConnection

_APPEND = Statement(
    """
    select null::bigint as position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           e.correlation_id, e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at
    from wakelog.append(
        cast(%(type)s as text), cast(cast(%(payload)s as text) as jsonb), cast(%(stream)s as text),
        cast(%(expected_version)s as bigint), cast(%(source)s as text), cast(%(idempotency_key)s as text),
        cast(cast(%(metadata)s as text) as jsonb), cast(%(correlation_id)s as text),
        cast(cast(%(causation_id)s as text) as uuid), cast(%(schema_version)s as integer),
        cast(cast(%(occurred_at)s as text) as timestamptz), cast(cast(%(id)s as text) as uuid),
        cast(cast(%(deliver_after)s as text) as timestamptz), cast(%(backpressure)s as text)
    ) as e
    """,
    COLUMNS,
)
_APPEND_MANY = Statement(
    "select count(*) as appended from wakelog.append_many(cast(cast(%(events)s as text) as jsonb))",
    ("appended",),
)

Backpressure = Literal["refuse", "wait"] | Duration
"""What a producer does where an agent has as many unfinished events as it may."""

# One call of wakelog.append_many: enough to make the round trip cheap, few enough to fit into memory twice.
_MOST_EVENTS = 1000
_MOST_CHARACTERS = 8_000_000
# Events whose keys are asked for in one round trip.
_ASKED_TOGETHER = 200
_PRIVATE = "private"


@overload
def append(
    connection: "SyncConnection",
    type: str | BaseModel,
    payload: Any = None,
    *,
    stream: str | None = None,
    expected_version: int | None = None,
    source: str = "",
    idempotency_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    correlation_id: str | None = None,
    causation_id: UUID | str | None = None,
    schema_version: int | None = None,
    occurred_at: datetime | None = None,
    id: UUID | str | None = None,
    deliver_after: Duration | datetime | None = None,
    private: str | Mapping[str, str] | None = None,
    backpressure: Backpressure | None = None,
) -> Event: ...


@overload
def append(
    connection: "AsyncConnection",
    type: str | BaseModel,
    payload: Any = None,
    *,
    stream: str | None = None,
    expected_version: int | None = None,
    source: str = "",
    idempotency_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    correlation_id: str | None = None,
    causation_id: UUID | str | None = None,
    schema_version: int | None = None,
    occurred_at: datetime | None = None,
    id: UUID | str | None = None,
    deliver_after: Duration | datetime | None = None,
    private: str | Mapping[str, str] | None = None,
    backpressure: Backpressure | None = None,
) -> Awaitable[Event]: ...


def append(
    connection: "SyncConnection | AsyncConnection",
    type: str | BaseModel,  # noqa: A002
    payload: Any = None,
    *,
    backpressure: Backpressure | None = None,
    **values: Any,
) -> Event | Awaitable[Event]:
    """Append one event in the caller's transaction and return it as it stands in the log.

    `connection` is psycopg's or SQLAlchemy's; over one for asyncio, await the result. Nothing is committed here, and
    nothing is published before the caller commits. The event has no position yet: the sequencer gives it one after
    the commit.

    `type` is a type, or an instance of a declared model (`event_model`), which says type, version and payload.
    `payload` is any JSON value (NaN and infinities, which JSON has not, become null; None is an empty object).
    `expected_version` is the version `stream` must be at, 0 for a stream that must be new. An event of the same
    `source` that already carries the `idempotency_key` is returned as it is, and nothing is appended.
    `deliver_after` is a duration from now (seconds, "5m", a timedelta; by this program's clock) or a moment: no agent
    is given the event before it; the log has it at once.
    `schema_version` is the version of the type that the payload is written in; None is the newest this code knows, that
    of its `event_model`, and 1 where there is none.
    `private` says what of the payload is personal and about whom: a subject for all of it, or places and subjects, as
    in {"address.street": "customer-17"}. It is encrypted before it is sent, under the subject's key, and unreadable for
    everybody once `wakelog forget` has destroyed that. Needs the role wakelog_keys, and the package cryptography.
    `backpressure` says what to do where an agent that wants the event has reached its capacity: "refuse", "wait", or
    wait for so many seconds (or "5m") and then refuse; None for what the setting wakelog.backpressure says, and that is
    to refuse. Waiting keeps the transaction open, and sees room being made at isolation level read committed.

    Raises:
        VersionConflict: the stream is at another version; the transaction is aborted.
        CapacityReached: an agent's capacity is reached; the transaction is aborted.
        UnknownType, UnknownVersion, DoesNotFit: it is not what was declared closed (`event_model`, `closed_family`).
        SubjectForgotten: something private belongs to a subject that was forgotten; the transaction is aborted.
        BadInput: a value cannot be used; most are refused before anything is sent.
        psycopg.Error, sqlalchemy.exc.DBAPIError: whatever else the database refuses.
    """
    event = NewEvent.of({**values, "type": type, "payload": payload})
    appending = _appending(connection, event, _patience(backpressure))
    if event.private is None:
        return converse(connection, appending)
    # Its keys and the event in one transaction, where the connection would make two of it.
    if is_async(connection):
        return _in_one_async(connection, appending)
    with translated(), _atomic(_driver(connection)):
        return converse(connection, appending)


@overload
def append_many(
    connection: "SyncConnection", events: Iterable[NewEvent | BaseModel | Mapping[str, Any]]
) -> int: ...
@overload
def append_many(
    connection: "AsyncConnection", events: Iterable[NewEvent | BaseModel | Mapping[str, Any]]
) -> Awaitable[int]: ...
def append_many(
    connection: "SyncConnection | AsyncConnection", events: Iterable[NewEvent | BaseModel | Mapping[str, Any]]
) -> int | Awaitable[int]:
    """Append any number of events in the order given, all or none, and return how many were given.

    Quickest, by COPY, over psycopg and SQLAlchemy on psycopg, for events without `idempotency_key` and
    `expected_version`; the others are looked up one by one in the database. The iterable is consumed as it is sent,
    so it may be larger than memory. A connection in autocommit gets a transaction for them.

    Raises as `append` does.
    """
    if is_async(connection):
        return _append_many_async(connection, events)
    driver = _driver(connection)
    count = 0
    with translated(), _atomic(driver):
        for way, piece in _pieces(events, may_copy=driver is not None):
            if driver is None or not isinstance(way, tuple):
                for some in _lists(piece) if way == _PRIVATE else [piece]:
                    hidden_ones = converse(driver or connection, hidden(some)) if way == _PRIVATE else some
                    for batch, number in _batches(hidden_ones):
                        run(driver or connection, _APPEND_MANY, {"events": batch}, _nothing)
                        count += number
            else:
                counted = _Counted(piece)
                with driver.cursor() as cursor, cursor.copy(copy_statement(way)) as copy:
                    for block in copy_blocks(counted):
                        copy.write(block)
                count += counted.count
    return count


async def _append_many_async(
    connection: Any, events: Iterable[NewEvent | BaseModel | Mapping[str, Any]]
) -> int:
    driver = await _driver_async(connection)
    count = 0
    with translated():
        async with _atomic(driver):
            for way, piece in _pieces(events, may_copy=driver is not None):
                if driver is None or not isinstance(way, tuple):
                    for some in _lists(piece) if way == _PRIVATE else [piece]:
                        hidden_ones = (
                            await converse(driver or connection, hidden(some)) if way == _PRIVATE else some
                        )
                        for batch, number in _batches(hidden_ones):
                            await run(driver or connection, _APPEND_MANY, {"events": batch}, _nothing)
                            count += number
                else:
                    counted = _Counted(piece)
                    async with driver.cursor() as cursor, cursor.copy(copy_statement(way)) as copy:
                        for block in copy_blocks(counted):
                            await copy.write(block)
                    count += counted.count
    return count


def _appending(
    connection: Any, event: NewEvent, patience: str | None
) -> Generator[tuple[Statement, dict[str, Any]], Rows, Event]:
    if event.private is not None:
        (event,) = yield from hidden([event])
    rows = yield _APPEND, {**_parameters(event), "backpressure": patience}
    (appended,) = yield from events_of(connection, rows)
    return appended


async def _in_one_async(connection: Any, appending: Generator[Any, Rows, Event]) -> Event:
    with translated():
        async with _atomic(await _driver_async(connection)):
            return await converse(connection, appending)


class _Counted(Iterable[NewEvent]):
    """Events, counted as they pass."""

    def __init__(self, events: Iterable[NewEvent]) -> None:
        self._events = events
        self.count = 0

    def __iter__(self) -> Iterator[NewEvent]:
        for event in self._events:
            self.count += 1
            yield event


def _pieces(
    events: Iterable[NewEvent | BaseModel | Mapping[str, Any]], *, may_copy: bool
) -> Iterator[tuple[Shape | str | None, Iterator[NewEvent]]]:
    """Runs of events that can be sent in one way, in the order given: by COPY, with keys, or neither."""

    def way(event: NewEvent) -> Shape | str | None:
        if event.private is not None:
            return _PRIVATE
        return shape(event) if may_copy else None

    return groupby(map(NewEvent.of, events), key=way)


def _lists(events: Iterator[NewEvent]) -> Iterator[list[NewEvent]]:
    while some := list(islice(events, _ASKED_TOGETHER)):
        yield some


def _batches(events: Iterable[NewEvent]) -> Iterator[tuple[str, int]]:
    """JSON arrays for wakelog.append_many, and how many events are in each."""
    batch: list[bytes] = []
    size = 0
    for event in events:
        values = _parameters(event)
        for name in ("payload", "metadata"):
            values[name] = orjson.Fragment(values[name])
        batch.append(orjson.dumps(values))
        size += len(batch[-1])
        if len(batch) >= _MOST_EVENTS or size >= _MOST_CHARACTERS:
            yield _array(batch), len(batch)
            batch, size = [], 0
    if batch:
        yield _array(batch), len(batch)


def _array(batch: list[bytes]) -> str:
    return b"".join((b"[", b",".join(batch), b"]")).decode()


def _patience(backpressure: Backpressure | None) -> str | None:
    if backpressure is None:
        return None
    if backpressure in ("refuse", "wait"):
        return str(backpressure)
    try:
        return f"{seconds(backpressure):f}"
    except BadInput as error:
        raise BadInput(f'backpressure: expected "refuse", "wait" or how long to wait; {error}') from None


def _parameters(event: NewEvent) -> dict[str, Any]:
    return {
        "type": event.type,
        "payload": "{}" if event.payload is None else json_text("payload", event.payload),
        "stream": event.stream,
        "expected_version": event.expected_version,
        "source": event.source,
        "idempotency_key": event.idempotency_key,
        "metadata": "{}" if event.metadata is None else json_text("metadata", event.metadata),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id and str(event.causation_id),
        "schema_version": event.written_in,
        "occurred_at": event.occurred_at and event.occurred_at.isoformat(),
        "id": event.id and str(event.id),
        "deliver_after": event.deliver_after and event.deliver_after.isoformat(),
    }


def _nothing(_: Rows) -> None:
    return None


def _driver(connection: Any) -> psycopg.Connection[Any] | None:
    """The psycopg connection beneath, in the caller's transaction, or None where another driver is beneath."""
    if isinstance(connection, psycopg.Connection):
        return connection  # pyright: ignore[reportUnknownVariableType]
    if not is_sqlalchemy(connection):
        raise unknown(connection)
    session: Any = connection
    beneath: Any = session.connection() if is_session(session) else session
    driver = beneath.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        return None
    if not driver.autocommit and not beneath.in_transaction():
        beneath.begin()
    return driver  # pyright: ignore[reportUnknownVariableType]


async def _driver_async(connection: Any) -> psycopg.AsyncConnection[Any] | None:
    if isinstance(connection, psycopg.AsyncConnection):
        return connection  # pyright: ignore[reportUnknownVariableType]
    beneath: Any = await connection.connection() if is_session(connection) else connection
    driver = (await beneath.get_raw_connection()).driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        return None
    if not driver.autocommit and not beneath.in_transaction():
        await beneath.begin()
    return driver  # pyright: ignore[reportUnknownVariableType]


def _atomic(driver: Any) -> Any:
    """A transaction for a connection that would commit after each statement."""
    if driver is not None and driver.autocommit and driver.info.transaction_status == TransactionStatus.IDLE:
        return driver.transaction()
    return nullcontext()
