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

_OPTIONAL = ("id", "occurred_at", "deliver_after")

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


Shape = tuple[str, ...]
"""Which of the columns with defaults events name."""


def shape(event: NewEvent) -> Shape | None:
    """Events of one shape go into one COPY: those that name the same of `id`, `occurred_at` and `deliver_after`.

    None for events that COPY cannot append, because an idempotency key or an expected version must be looked up.
    """
    if event.idempotency_key is not None or event.expected_version is not None:
        return None
    return tuple(name for name in _OPTIONAL if getattr(event, name) is not None)


def copy_statement(of: Shape) -> sql.Composed:
    """The COPY that takes events of a shape."""
    columns = sql.SQL(", ").join(map(sql.Identifier, (*_COLUMNS, *of)))
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
        str(event.written_in),
    ]
    if event.id is not None:
        fields.append(str(event.id))
    if event.occurred_at is not None:
        fields.append(event.occurred_at.isoformat())
    if event.deliver_after is not None:
        fields.append(event.deliver_after.isoformat())
    return "\t".join(fields) + "\n"


def _field(text: str | None) -> str:
    if text is None:
        return r"\N"
    return text.translate(_ESCAPES) if _SPECIAL.search(text) else text
