"""What commands print: tables and sentences for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from wakelog.log.event import Event


def say(text: str = "") -> None:
    """A line for people."""
    print(text, flush=sys.stdout.isatty())


def to_json(value: Any) -> str:
    """One JSON document on one line; times in UTC, durations in seconds."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def say_json(value: Any) -> None:
    """A JSON document on a line of its own, there at once for whoever reads the stream."""
    print(to_json(value), flush=True)


def say_json_with(document: Mapping[str, Any], name: str, values: Iterable[Any]) -> None:
    """As `say_json` of the document with one more member, a list, whose values need not be in memory all at once."""
    print(f"{to_json(document)[:-1]}, {to_json(name)}: [", end="")
    before = ""
    for value in values:
        print(f"{before}{to_json(value)}", end="")
        before = ", "
    print("]}", flush=True)


def event_document(event: "Event") -> dict[str, Any]:
    """An event with all its fields, for JSON."""
    from wakelog.log.event import COLUMNS

    return {name: getattr(event, name) for name in COLUMNS}


def table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Rows under headings, or the sentence `empty` where there are none.

    `columns` are headings and how each is laid out: `left`, `right`, or `fold` for long text.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading, layout in columns.items():
        if layout == "right":
            made.add_column(heading, justify="right", no_wrap=True)
        else:
            made.add_column(heading, overflow="fold", no_wrap=layout != "fold")
    for row in rows:
        made.add_row(*("" if cell is None else Text(str(cell)) for cell in row))
    if made.row_count:
        show(made)
    else:
        say(empty)


def show(thing: "RenderableType") -> None:
    """Anything rich can draw."""
    console().print(thing)


def console(*, stderr: bool = False) -> "Console":
    """Where rich draws; wide where nobody looks, so that a pipe gets whole lines."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 240
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def counted(number: int, thing: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def shortened(text: str, length: int) -> str:
    """At most `length` characters on one line, with a mark where something was cut off."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def _plain(value: Any) -> Any:
    from wakelog.forgotten import Forgotten
    from wakelog.postgres.jsonb import Unreadable

    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case Forgotten():
            return value.as_json()
        case Unreadable():
            return f"(JSON that Python cannot read: {value.reason})"
        case _:
            raise TypeError(f"expected something JSON knows, found {type(value).__name__}")
