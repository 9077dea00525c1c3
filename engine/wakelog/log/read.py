"""Reading the log in its order, a stream in the order of its versions, and the position of a moment."""

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from wakelog.errors import BadInput
from wakelog.log.connections import Rows, Statement, converse, is_async, run
from wakelog.log.event import COLUMNS, Event
from wakelog.log.private import events_of
from wakelog.postgres import jsonb

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from wakelog.log.connections import AsyncConnection, SyncConnection

_BATCH = 1000

# Conditions that are null cost nothing: the planner sees the parameters and drops them.
_READ = Statement(
    """
    select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           e.correlation_id, e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at
    from wakelog.log l
    join wakelog.events e on e.seq = l.seq
    where l.position > cast(%(after)s as bigint)
      and l.position <= cast(%(upto)s as bigint)
      and (cast(%(types)s as jsonb) is null or l.type_id = any (array(
               select t.id from wakelog.types t
               where '.' || t.type ~ (select coalesce(
                   wakelog.patterns_regex(
                       array(select jsonb_array_elements_text(cast(%(types)s as jsonb))), '.'), '^')))))
      and (cast(%(stream)s as text) is null or e.stream = cast(%(stream)s as text))
      and (cast(%(correlation_id)s as text) is null
           or coalesce(e.correlation_id, e.id::text) = cast(%(correlation_id)s as text))
    order by l.position
    limit cast(%(limit)s as bigint)
    """,
    COLUMNS,
    prepare=False,
)
_READ_STREAM = Statement(
    """
    select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           e.correlation_id, e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at
    from wakelog.events e
    left join wakelog.log l on l.seq = e.seq
    where e.stream = cast(%(stream)s as text)
      and e.version > cast(%(after)s as bigint)
    order by e.version
    limit cast(%(limit)s as bigint)
    """,
    COLUMNS,
)
_READ_PART = Statement(
    """
    select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           e.correlation_id, e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at
    from wakelog.events e
    join wakelog.log l on l.seq = e.seq
    where e.stream = cast(%(stream)s as text)
      and e.version > cast(%(after_version)s as bigint)
      and (cast(%(upto_version)s as bigint) is null or e.version <= cast(%(upto_version)s as bigint))
      and l.position > cast(%(after)s as bigint)
      and l.position <= cast(%(upto)s as bigint)
      and '.' || e.type ~ (select coalesce(
              wakelog.patterns_regex(array(select jsonb_array_elements_text(cast(%(types)s as jsonb))), '.'), ''))
    order by l.position
    limit cast(%(limit)s as bigint)
    """,
    COLUMNS,
)
_HEAD = Statement("select s.head from wakelog.sequencer s", ("head",))
_POSITION_AT = Statement(
    "select wakelog.position_at(cast(cast(%(at)s as text) as timestamptz)) as position", ("position",)
)
_SEQUENCE = Statement("select wakelog.sequence() as positions", ("positions",))

# What a reading asks of its connection, one statement after the other, and what it is given back.
_Reading = Generator[tuple[Statement, dict[str, Any]], Rows]


@overload
def read(
    connection: "SyncConnection",
    *,
    after: int | None = None,
    from_position: int | None = None,
    upto: int | None = None,
    types: str | Sequence[str] | None = None,
    stream: str | None = None,
    correlation_id: str | None = None,
    limit: int | None = None,
) -> Iterator[Event]: ...
@overload
def read(
    connection: "AsyncConnection",
    *,
    after: int | None = None,
    from_position: int | None = None,
    upto: int | None = None,
    types: str | Sequence[str] | None = None,
    stream: str | None = None,
    correlation_id: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[Event]: ...
def read(
    connection: "SyncConnection | AsyncConnection",
    *,
    after: int | None = None,
    from_position: int | None = None,
    upto: int | None = None,
    types: str | Sequence[str] | None = None,
    stream: str | None = None,
    correlation_id: str | None = None,
    limit: int | None = None,
) -> Iterator[Event] | AsyncIterator[Event]:
    """The events of the log in position order, fetched in batches as they are wanted.

    From `after` (exclusive) or `from_position` (inclusive), else from the beginning, to `upto` (inclusive), else to
    the end of the log as it is when the reading begins: so it ends, however fast events arrive. `types` are patterns of
    dotted words, * for one and # for any number of them. Events that were committed a moment ago may have no position
    yet: see `sequence`. Private values are decrypted where the connection's role may see keys, `FORGOTTEN` where their
    subject is forgotten, and {"$private": ...} otherwise.

    Raises `BadInput` for both `after` and `from_position`.
    """
    if after is not None and from_position is not None:
        raise BadInput(f"expected one of after and from_position, found both ({after} and {from_position})")
    if from_position is not None:
        after = from_position - 1
    filters = {"types": _patterns(types), "stream": stream, "correlation_id": correlation_id}
    return _iterate(connection, _log(after or 0, upto, limit, filters))


@overload
def read_stream(
    connection: "SyncConnection", stream: str, *, after_version: int = 0, limit: int | None = None
) -> Iterator[Event]: ...
@overload
def read_stream(
    connection: "AsyncConnection", stream: str, *, after_version: int = 0, limit: int | None = None
) -> AsyncIterator[Event]: ...
def read_stream(
    connection: "SyncConnection | AsyncConnection",
    stream: str,
    *,
    after_version: int = 0,
    limit: int | None = None,
) -> Iterator[Event] | AsyncIterator[Event]:
    """All events of a stream in version order, whether they have a position already or not.

    What the caller's own transaction has appended is among them: fold them, and append with the version of the last.
    """
    return _iterate(connection, _stream(stream, after_version, limit))


def read_part(
    connection: "SyncConnection | AsyncConnection",
    stream: str,
    *,
    after: int,
    upto: int,
    after_version: int,
    upto_version: int | None,
    types: Sequence[str],
) -> Any:
    """The events of a stream at positions above `after`, up to `upto`, in that order.

    For who knows that these are of versions above `after_version`, up to `upto_version` (None is any), and so finds
    them without reading the rest of the stream.
    """
    asked = {
        "stream": stream, "upto": upto, "after_version": after_version, "upto_version": upto_version,
        "types": _patterns(types),
    }  # fmt: skip
    return _iterate(connection, _part(after, asked))


@overload
def position_at(connection: "SyncConnection", time: datetime) -> int: ...
@overload
def position_at(connection: "AsyncConnection", time: datetime) -> "Awaitable[int]": ...
def position_at(connection: "SyncConnection | AsyncConnection", time: datetime) -> "int | Awaitable[int]":
    """The last position the log had at a moment; 0 before the first. Raises `BadInput` for a time without a zone."""
    if time.tzinfo is None:
        raise BadInput(f"expected a time with a zone, found {time.isoformat()}")
    return run(connection, _POSITION_AT, {"at": time.isoformat()}, _scalar)


@overload
def head(connection: "SyncConnection") -> int: ...
@overload
def head(connection: "AsyncConnection") -> "Awaitable[int]": ...
def head(connection: "SyncConnection | AsyncConnection") -> "int | Awaitable[int]":
    """The last position of the log, 0 while it is empty."""
    return run(connection, _HEAD, {}, _scalar)


@overload
def sequence(connection: "SyncConnection") -> int | None: ...
@overload
def sequence(connection: "AsyncConnection") -> "Awaitable[int | None]": ...
def sequence(connection: "SyncConnection | AsyncConnection") -> "int | Awaitable[int | None] | None":
    """Give committed events their positions now, and return how many; None while another session is at it.

    Workers do so all the time. Raises `SequencerRefused` in a transaction that has already written.
    """
    return run(connection, _SEQUENCE, {}, _scalar)


def _log(after: int, upto: int | None, limit: int | None, filters: dict[str, Any]) -> _Reading:
    if upto is None:
        upto = _scalar((yield _HEAD, {}))
    while limit is None or limit > 0:
        size = _BATCH if limit is None else min(limit, _BATCH)
        rows = yield _READ, {"after": after, "upto": upto, "limit": size, **filters}
        if len(rows) < size:
            return
        after = rows[-1][0]
        limit = limit and limit - size


def _part(after: int, asked: dict[str, Any]) -> _Reading:
    while True:
        rows = yield _READ_PART, {**asked, "after": after, "limit": _BATCH}
        if len(rows) < _BATCH:
            return
        after = rows[-1][0]


def _stream(stream: str, after: int, limit: int | None) -> _Reading:
    while limit is None or limit > 0:
        size = _BATCH if limit is None else min(limit, _BATCH)
        rows = yield _READ_STREAM, {"stream": stream, "after": after, "limit": size}
        if len(rows) < size:
            return
        after = rows[-1][5]
        limit = limit and limit - size


def _iterate(connection: Any, reading: _Reading) -> Any:
    return _each_async(connection, reading) if is_async(connection) else _each(connection, reading)


def _each(connection: Any, reading: _Reading) -> Iterator[Event]:
    asked = _next(reading)
    while asked is not None:
        rows: Rows = run(connection, *asked, _as_they_are)
        if asked[0].columns == COLUMNS:
            yield from converse(connection, events_of(connection, rows))
        asked = _next(reading, rows)


async def _each_async(connection: Any, reading: _Reading) -> AsyncIterator[Event]:
    asked = _next(reading)
    while asked is not None:
        rows: Rows = await run(connection, *asked, _as_they_are)
        if asked[0].columns == COLUMNS:
            for event in await converse(connection, events_of(connection, rows)):
                yield event
        asked = _next(reading, rows)


def _next(reading: _Reading, rows: Rows | None = None) -> tuple[Statement, dict[str, Any]] | None:
    try:
        return next(reading) if rows is None else reading.send(rows)
    except StopIteration:
        return None


def _patterns(types: str | Sequence[str] | None) -> str | None:
    if types is None:
        return None
    patterns = [types] if isinstance(types, str) else list(types)
    if not patterns:
        raise BadInput('expected at least one pattern of types, found none; "#" is for all')
    return jsonb.encode(patterns)


def _as_they_are(rows: Rows) -> Rows:
    return rows


def _scalar(rows: Rows) -> Any:
    return rows[0][0]
