"""`wakelog append`: events from the command line, one or a whole file."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast
from uuid import UUID

import click
from rich_click import command

from wakelog_cli.database import connected, sequence_if_allowed, value
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Later
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, event_document, say, say_json

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.log.event import NewEvent

# jsonb cannot hold more; nothing longer needs to be read.
_LARGEST = 256 * 1024 * 1024


@command()
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.argument("payload", required=False, metavar="[PAYLOAD | @FILE | -]")
@click.option("--stream", help="The entity that the event belongs to, such as order-17.")
@click.option(
    "--expected-version",
    type=click.IntRange(min=0),
    help="Append only if the stream is at this version; 0: only if it is new.",
)
@click.option("--source", default="", help="Who says so, such as github/acme.")
@click.option("--key", help="Idempotency key: appended once per source, however often it is said.")
@click.option("--metadata", metavar="JSON", help="An object that goes along with the payload.")
@click.option(
    "--schema-version",
    type=click.IntRange(1, 2**31 - 1),
    help="The version of the type it is written in; 1 if not given.",
)
@click.option("--correlation", help="The workflow that the event belongs to; without it, it begins its own.")
@click.option("--cause", type=click.UUID, metavar="ID", help="The id of the event that led to this one.")
@click.option(
    "--after",
    metavar="DURATION|TIME",
    type=Later(),
    help="No agent is given it before then: 90s, 24h from now, or at 2026-12-01T09:00.",
)
@click.option(
    "--private",
    "private",
    multiple=True,
    metavar="PLACE=SUBJECT",
    help="A place in the payload that is personal, and about whom: address.street=customer-17. May be repeated; "
    "=customer-17 is all of it.",
)
@click.option("--many", metavar="FILE", help="Append a whole file of JSON lines, all or none; - is stdin.")
@database_option
@json_option
def append(
    event_type: str | None,
    payload: str | None,
    stream: str | None,
    expected_version: int | None,
    source: str,
    key: str | None,
    metadata: str | None,
    schema_version: int | None,
    correlation: str | None,
    cause: UUID | None,
    after: datetime | None,
    private: tuple[str, ...],
    many: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Append an event to the log.

    The payload is JSON, from the command line, a file (@FILE) or stdin (-); without it, an empty object.

    With --many each line of FILE is an object: type, and if wanted payload, stream, expected_version, source,
    idempotency_key, metadata, correlation_id, causation_id, schema_version, occurred_at, id, deliver_after, private.

    Examples:

        wakelog append push '{"branch": "main"}'

        wakelog append order.paid @order.json --stream order-17 --expected-version 3

        wakelog append reminder.due '{"to": "ada"}' --after 24h

        wakelog append --many events.jsonl
    """
    if many is not None:
        if event_type is not None:
            raise click.UsageError("expected either a type or --many, found both")
        _append_file(many, database, as_json)
        return
    if event_type is None:
        raise click.UsageError("expected the type of the event, such as push, found none")

    from wakelog.log.event import NewEvent

    event = NewEvent.of(
        {
            "type": event_type,
            "payload": _payload(payload),
            "stream": stream,
            "expected_version": expected_version,
            "source": source,
            "idempotency_key": key,
            "metadata": None if metadata is None else _metadata(metadata),
            "schema_version": schema_version,
            "correlation_id": correlation,
            "causation_id": cause,
            "deliver_after": after,
            "private": _private(private),
        }
    )
    with connected(database, schema=False) as connection:
        _require_schema(connection)
        _append_one(connection, event, as_json)


def _private(said: tuple[str, ...]) -> str | dict[str, str] | None:
    places: dict[str, str] = {}
    for each in said:
        place, equals, subject = each.partition("=")
        if not equals or not subject:
            raise click.UsageError(f"expected --private such as email=customer-17, found {each!r}")
        places[place] = subject
    if "" not in places:
        return places or None
    if len(places) > 1:
        raise click.UsageError("expected either all of the payload or places in it as --private, found both")
    return places[""]


def _append_one(connection: "Connection[Any]", event: "NewEvent", as_json: bool) -> None:
    from wakelog.log.append import append as append_event

    # Our own id tells a new event from one that already carried the key.
    own_id = value(connection, "select wakelog.uuid7()")
    appended = append_event(connection, **{**dict(event), "id": own_id})
    is_new = appended.id == own_id
    position = appended.position or _position(connection, appended.id)
    if as_json:
        say_json({**event_document(appended), "position": position, "appended": is_new})
        return
    place = f"at position {position}" if position is not None else "(its position follows in a moment)"
    version = f", version {appended.version} of {appended.stream}" if appended.stream else ""
    did = "appended" if is_new else "already there:"
    say(f"{did} {appended.type} {place}{version}, id {appended.id}")


def _append_file(name: str, database: str | None, as_json: bool) -> None:
    from wakelog_cli.progress import Progress

    with _opened(name) as file, connected(database, schema=False) as connection:
        _require_schema(connection)
        from wakelog.log.append import append_many

        size = Path(name).stat().st_size if name != "-" else None
        with Progress("appending", "events", size) as progress, connection.transaction():
            count = append_many(connection, _events(name, file, progress))
        sequence_if_allowed(connection)
    if as_json:
        say_json({"appended": count, "seconds": round(progress.seconds, 3)})
    else:
        say(f"appended {counted(count, 'event')} in {progress.seconds:.1f} s ({progress.rate:,.0f} a second)")


def _events(name: str, file: BinaryIO, progress: Any) -> Iterator["NewEvent"]:
    from wakelog.errors import BadInput
    from wakelog.log.event import NewEvent

    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                event = NewEvent.of(_parsed(line, "the line"))
            except (Failure, BadInput) as wrong:
                raise Failure(
                    f"{_called(name)}, line {number}: {wrong}; nothing was appended",
                    ExitCode.BAD_INPUT,
                    next_command="mend the line and try again; see: wakelog append --help",
                ) from None
            yield event
        progress.advance(len(line), 1)


def _payload(given: str | None) -> Any:
    if given is None:
        return None
    if given == "-" or given.startswith("@"):
        name = given.removeprefix("@")
        return _parsed(_read(name), f"the payload in {_called(name)}")
    return _parsed(given.encode("utf-8", "surrogateescape"), "the payload")


def _read(name: str) -> bytes:
    with _opened(name) as file:
        # A pipe has no size, and is read as far as need be.
        size = Path(name).stat().st_size if name != "-" else 0
        text = file.read(_LARGEST + 1) if size <= _LARGEST else b""
    if max(size, len(text)) > _LARGEST:
        raise Failure(
            f"expected a payload of at most 256 MB, which is what jsonb holds, found more in {_called(name)}; put the "
            "data elsewhere and its address in the event",
            ExitCode.BAD_INPUT,
            next_command="see: wakelog append --help",
        )
    return text


def _metadata(given: str) -> dict[str, Any]:
    found = _parsed(given.encode("utf-8", "surrogateescape"), "the metadata")
    if not isinstance(found, dict):
        raise Failure(
            f"expected the metadata to be a JSON object, found {given[:80]!r}",
            ExitCode.BAD_INPUT,
            next_command="""write: --metadata '{"tenant": "acme"}', as wakelog append --help shows""",
        )
    return cast("dict[str, Any]", found)


def _parsed(text: bytes, what: str) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as wrong:
        near = wrong.doc[max(wrong.pos - 20, 0) : wrong.pos + 20]
        reason = f"{wrong.msg} at line {wrong.lineno}, column {wrong.colno}, near {near!r}"
    except UnicodeDecodeError as wrong:
        reason = f"it is not UTF-8 at byte {wrong.start}"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as wrong:
        reason = str(wrong)
    raise Failure(
        f"expected {what} to be JSON, but {reason[:1].lower()}{reason[1:]}",
        ExitCode.BAD_INPUT,
        next_command="""write for example: wakelog append push '{"branch": "main"}'""",
    )


def _no_constant(found: str) -> NoReturn:
    raise ValueError(f"{found} is not a number in JSON")


def _finite(found: str) -> float:
    number = float(found)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{found} is too large a number")
    return number


def _opened(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as refused:
        raise Failure(
            f"expected a file to read at {name}, found that it cannot be opened: {refused.strerror}",
            ExitCode.BAD_INPUT,
            next_command="see: wakelog append --help",
        ) from None


def _called(name: str) -> str:
    return "stdin" if name == "-" else name


def _require_schema(connection: "Connection[Any]") -> None:
    """As `connected` does, but a mere writer, who may not read anything, is let through."""
    import psycopg

    from wakelog.postgres.schema import require_current

    with suppress(psycopg.errors.InsufficientPrivilege):
        require_current(connection)


def _position(connection: "Connection[Any]", event_id: UUID) -> int | None:
    """The position, handed out by us where nobody else does; None for a mere writer, and while it is being done."""
    import psycopg

    with suppress(psycopg.errors.InsufficientPrivilege):
        # Whoever is at the sequencing at this moment may have begun too early to see this event.
        for pause in (0.0, 0.005, 0.02, 0.1):
            time.sleep(pause)
            sequence_if_allowed(connection)
            position = value(
                connection, "select position from wakelog.log_events where id = %(id)s", {"id": event_id}
            )
            if position is not None:
                return position
    return None
