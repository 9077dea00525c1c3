"""Events as COPY takes them: the quickest way into the log, for all but those that must be looked up first."""

import re
from collections.abc import Iterable, Iterator

from psycopg import sql

from wakelog.log.event import NewEvent
from wakelog.log.values import json_text

_BLOCK = 128 * 1024
_COLUMNS = (
    "type", "source", "stream", "payload", "metadata", "correlation_id", "causation_id", "schema_version",
)  # fmt: skip

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def shape(event: NewEvent) -> tuple[bool, bool] | None:
    """Events of one shape go into one COPY: those that name `id` and `occurred_at` or leave them to their defaults.

    None for events that COPY cannot append, because an idempotency key or an expected version must be looked up.
    """
    if event.idempotency_key is not None or event.expected_version is not None:
        return None
    return event.id is not None, event.occurred_at is not None


def copy_statement(of: tuple[bool, bool]) -> sql.Composed:
    """The COPY that takes events of a shape."""
    with_id, with_time = of
    names = (*_COLUMNS, *(("id",) if with_id else ()), *(("occurred_at",) if with_time else ()))
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL("copy wakelog.events ({}) from stdin (encoding 'UTF8')").format(columns)


def copy_blocks(events: Iterable[NewEvent]) -> Iterator[bytes]:
    """The lines of events of one shape, in pieces worth sending. Raises `BadInput`."""
    lines: list[str] = []
    size = 0
    for event in events:
        line = _line(event)
        lines.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield "".join(lines).encode()
            lines.clear()
            size = 0
    if lines:
        yield "".join(lines).encode()


def _line(event: NewEvent) -> str:
    payload, metadata = event.payload, event.metadata
    fields = [
        event.type,
        _field(event.source),
        _field(event.stream),
        # JSON has no raw tabs and line ends, only backslashes.
        "{}" if payload is None else json_text("payload", payload).replace("\\", r"\\"),
        "{}" if metadata is None else json_text("metadata", metadata).replace("\\", r"\\"),
        _field(event.correlation_id),
        r"\N" if event.causation_id is None else str(event.causation_id),
        str(event.schema_version),
    ]
    if event.id is not None:
        fields.append(str(event.id))
    if event.occurred_at is not None:
        fields.append(event.occurred_at.isoformat())
    return "\t".join(fields) + "\n"


def _field(text: str | None) -> str:
    if text is None:
        return r"\N"
    return text.translate(_ESCAPES) if _SPECIAL.search(text) else text
