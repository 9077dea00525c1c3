"""The bytes of an event that are hashed, made and read without PostgreSQL (see sql/functions/event_record.sql).

They are what PostgreSQL's binary form of a row is: the number of fields, and for each the number of its type, the
length of its value (-1 for null) and the value; all numbers with the highest byte first. So two different events never
have the same bytes, whatever is in their texts.
"""

import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

FORM = 1
"""The version of this form; the first field of every record."""

Kind = Literal["int4", "int8", "time", "uuid", "text"]

FIELDS: tuple[tuple[str, Kind], ...] = (
    ("position", "int8"),
    ("seq", "int8"),
    ("sequenced_at", "time"),
    ("id", "uuid"),
    ("type", "text"),
    ("source", "text"),
    ("stream", "text"),
    ("version", "int8"),
    ("correlation_id", "text"),
    ("causation_id", "uuid"),
    ("idempotency_key", "text"),
    ("schema_version", "int4"),
    ("occurred_at", "time"),
    ("recorded_at", "time"),
    ("deliver_after", "time"),
    ("metadata", "text"),
    ("payload", "text"),
)
"""What of an event is hashed, after the version of the form, in order. metadata and payload as jsonb writes itself."""

TYPE_NUMBERS: dict[Kind, int] = {"int4": 23, "int8": 20, "time": 1184, "uuid": 2950, "text": 25}

POSITION, SEQUENCED_AT, ID = slice(24, 32), slice(56, 64), slice(72, 88)
"""Where these lie in every record: what stands before them is never null and has one length."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEFORE_ALL = -(2**63)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def encode(event: Mapping[str, Any]) -> bytes:
    """The record of an event whose fields are written as `decode` does. Raises ValueError, KeyError or TypeError."""
    parts = [struct.pack("!i", len(FIELDS) + 1), struct.pack("!iii", TYPE_NUMBERS["int4"], 4, FORM)]
    for name, kind in FIELDS:
        parts.append(_field(kind, event[name]))
    return b"".join(parts)


def decode(record: bytes) -> dict[str, Any]:
    """The fields of a record: ids and texts as text, times in UTC with six digits after the second.

    Raises ValueError for bytes that are no record of this form.
    """
    (count,) = struct.unpack_from("!i", record)
    number, length, form = struct.unpack_from("!iii", record, 4)
    if (count, number, length, form) != (len(FIELDS) + 1, TYPE_NUMBERS["int4"], 4, FORM):
        raise ValueError(f"expected a record of form {FORM} with {len(FIELDS) + 1} fields")
    event: dict[str, Any] = {}
    at = 16
    for name, kind in FIELDS:
        number, length = struct.unpack_from("!ii", record, at)
        at += 8
        if number != TYPE_NUMBERS[kind]:
            raise ValueError(f"expected type {TYPE_NUMBERS[kind]} for {name}, found {number}")
        event[name] = None if length < 0 else _value(kind, record[at : at + length])
        at += max(length, 0)
    if at != len(record):
        raise ValueError(f"expected {at} bytes, found {len(record)}")
    return event


def text_of_time(moment: datetime) -> str:
    """A moment as records and seals are written for people: in UTC, with six digits after the second."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds(time: str | int) -> int:
    """A time as PostgreSQL has it: microseconds since the beginning of 2000. Raises ValueError."""
    if isinstance(time, int):
        return time
    if time == "-infinity":
        return _BEFORE_ALL
    if not _TIME.fullmatch(time):
        raise ValueError(f'expected a time such as "2026-11-27T14:30:00.000000Z", found {time!r}')
    return (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND


def _field(kind: Kind, value: Any) -> bytes:
    if value is None:
        return struct.pack("!ii", TYPE_NUMBERS[kind], -1)
    match kind:
        case "int4":
            written = struct.pack("!i", value)
        case "int8":
            written = struct.pack("!q", value)
        case "time":
            written = struct.pack("!q", microseconds(value))
        case "uuid":
            written = UUID(value).bytes
        case "text":
            written = value.encode()
    return struct.pack("!ii", TYPE_NUMBERS[kind], len(written)) + written


def _value(kind: Kind, written: bytes) -> Any:
    match kind:
        case "int4":
            return struct.unpack("!i", written)[0]
        case "int8":
            return struct.unpack("!q", written)[0]
        case "time":
            return _time(struct.unpack("!q", written)[0])
        case "uuid":
            return str(UUID(bytes=written))
        case "text":
            return written.decode()


def _time(since: int) -> str | int:
    if since == _BEFORE_ALL:
        return "-infinity"
    try:
        return text_of_time(_EPOCH + since * _MICROSECOND)
    except OverflowError:
        return since  # before the year 1, which a delay may be
