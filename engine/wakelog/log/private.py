"""Private values on their way into the log and out of it: whose keys are asked for, and when.

How this stays correct
----------------------
Keys to write with are asked for in the transaction that appends. They come with a lock on their subjects, so that a
forgetting waits for that transaction, and the next append for the forgetting, which refuses it. No key is kept: each
append and each batch of events that is read asks anew.
"""

import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg

from wakelog.log.connections import Rows, Statement
from wakelog.log.event import Event, NewEvent
from wakelog.log.values import json_text
from wakelog.postgres import jsonb
from wakelog.privacy.envelope import can_open
from wakelog.privacy.fields import (
    Key,
    Veiled,
    closed,
    envelopes,
    keys_wanted,
    opened,
    subjects_of,
)

TO_WRITE = Statement(
    "select k.subject, k.key_id, k.key from wakelog.keys_to_write("
    "array(select jsonb_array_elements_text(cast(cast(%(subjects)s as text) as jsonb)))) as k",
    ("subject", "key_id", "key"),
)
TO_EMIT = Statement(
    "select k.subject, k.key_id, k.key from wakelog.keys_to_emit("
    "array(select jsonb_array_elements_text(cast(cast(%(subjects)s as text) as jsonb)))) as k",
    ("subject", "key_id", "key"),
)
TO_READ = Statement(
    "select k.key_id, k.key, k.forgotten from wakelog.keys_to_read("
    "array(select cast(jsonb_array_elements_text(cast(cast(%(ids)s as text) as jsonb)) as bigint))) as k",
    ("key_id", "key", "forgotten"),
)

Asking = Generator[tuple[Statement, dict[str, Any]], Rows]
"""Statements that are asked for, one after the other, each answered with its rows."""

_log = logging.getLogger("wakelog.private")


def hidden(events: Iterable[NewEvent]) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[NewEvent]]":
    """The same events with what is private in them encrypted; asks for keys where something is.

    Raises `SubjectForgotten`, and `BadInput` for a place that is not in its payload.
    """
    given = list(events)
    subjects = sorted({subject for event in given if event.private for subject in subjects_of(event.private)})
    if not subjects:
        return given
    keys = yield from _keys(TO_WRITE, subjects)
    done: list[NewEvent] = []
    for event in given:
        if event.private is None:
            done.append(event)
            continue
        id_ = event.id or _uuid7()
        payload = jsonb.decode(json_text("payload", {} if event.payload is None else event.payload))
        payload = closed(payload, event.private, keys, id_)
        done.append(event.model_copy(update={"payload": payload, "id": id_, "private": None}))
    return done


def answers_hidden(
    answers: Iterable[Mapping[str, Any]],
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Mapping[str, Any]]]":
    """The same for events that an agent answers with, as wakelog.emit takes them: `private` says what is in them.

    In the transaction that acknowledges. Raises as `hidden`.
    """
    given = list(answers)
    private = [answer["private"] for answer in given if "private" in answer]
    subjects = sorted({subject for one in private for subject in subjects_of(one)})
    if not subjects:
        return given
    keys = yield from _keys(TO_EMIT, subjects)
    done: list[Mapping[str, Any]] = []
    for answer in given:
        said = dict(answer)
        if "private" in said:
            id_ = _uuid7()
            # A copy, since an acknowledgement may be tried again.
            payload = jsonb.decode(jsonb.encode(said["payload"]))
            said |= {"id": str(id_), "payload": closed(payload, said.pop("private"), keys, id_)}
        done.append(said)
    return done


def _keys(
    asked: Statement, subjects: list[str]
) -> Generator[tuple[Statement, dict[str, Any]], Rows, dict[str, Key]]:
    rows = yield asked, {"subjects": jsonb.encode(subjects)}
    return {subject: (key_id, bytes(key)) for subject, key_id, key in rows}


def shown(events: Iterable[Event]) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Event]]":
    """The same events with what is encrypted in them as it was, as far as this session may see keys.

    What belongs to a subject that was forgotten is `FORGOTTEN`; what there is no key for stays as it is stored.
    """
    found = [_unveiled_metadata(event) for event in events]
    payloads = yield from _shown((event.id, event.payload) for event in found)
    return [
        event if payload is event.payload else replace(event, payload=payload)
        for event, payload in zip(found, payloads, strict=True)
    ]


def payloads_shown(
    connection: Any, payloads: Iterable[tuple[UUID, Any]]
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Any]]":
    """The same for payloads alone, as they were read over this connection, each with the id of its event."""
    if not _read_veiled(connection):
        payloads = [(id_, _veiled(payload)) for id_, payload in payloads]
    return (yield from _shown(payloads))


def _shown(
    payloads: Iterable[tuple[UUID, Any]],
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Any]]":
    given = list(payloads)
    keys = yield from _keys_to_read(payload.payload for _, payload in given if isinstance(payload, Veiled))
    return [
        opened(payload.payload, keys, id_, _log.warning) if isinstance(payload, Veiled) else payload
        for id_, payload in given
    ]


def answers_shown(
    answers: Iterable[dict[str, Any]],
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[dict[str, Any]]]":
    """The same for answers that were recorded, with their ids; `private` lists the places that are."""
    given = list(answers)
    keys = yield from _keys_to_read(answer["payload"] for answer in given)
    return [
        {
            **answer,
            "private": sorted(".".join(words) for words, _ in envelopes(answer["payload"])),
            "payload": opened(answer["payload"], keys, UUID(answer["id"]), _log.warning),
        }
        for answer in given
    ]


def unveiled(value: Any) -> Any:
    """A value that was read as it is stored."""
    return value.payload if isinstance(value, Veiled) else value


def _keys_to_read(
    payloads: Iterable[Any],
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, dict[int, bytes | None]]":
    """The keys that these payloads need, as far as this session may see them; None for one that was destroyed."""
    wanted: set[int] = set()
    for payload in payloads:
        wanted |= keys_wanted(payload)
    if not wanted:
        return {}
    if not can_open():
        _log.warning("private values stay encrypted: install the package cryptography (wakelog[forget])")
        return {}
    rows = yield TO_READ, {"ids": jsonb.encode(sorted(wanted))}
    return {
        key_id: None if forgotten else bytes(key)
        for key_id, key, forgotten in rows
        if forgotten or key is not None
    }


def events_of(
    connection: Any, rows: Rows
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Event]]":
    """The events of rows with `COLUMNS`, shown; asks for nothing where nothing is encrypted."""
    if not _read_veiled(connection):
        rows = [(*row[:6], _veiled(row[6]), *row[7:]) for row in rows]
    events = [Event.from_row(row) for row in rows]
    return (yield from shown(events)) if any(map(is_veiled, events)) else events


def is_veiled(event: Event) -> bool:
    """Whether something in an event that was read may be encrypted."""
    metadata: Any = event.metadata
    return type(event.payload) is Veiled or type(metadata) is Veiled


def _read_veiled(connection: Any) -> bool:
    """Whether its rows come with `Veiled` where there is an envelope; not from another driver, or SQLAlchemy."""
    return isinstance(connection, psycopg.Connection | psycopg.AsyncConnection)


def _veiled(payload: Any) -> Any:
    """A payload that another driver has read, as `Veiled` where there is an envelope."""
    return Veiled(payload) if next(envelopes(payload), None) is not None else payload


def _unveiled_metadata(event: Event) -> Event:
    metadata: Any = event.metadata
    return replace(event, metadata=metadata.payload) if isinstance(metadata, Veiled) else event


def _uuid7() -> UUID:
    """A version 7 UUID, as wakelog.uuid7() makes them; private values are bound to their event's."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
