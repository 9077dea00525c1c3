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
from collections.abc import Generator, Iterable
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
    rows = yield TO_WRITE, {"subjects": jsonb.encode(subjects)}
    keys = {subject: (key_id, bytes(key)) for subject, key_id, key in rows}
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


def shown(events: Iterable[Event]) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Event]]":
    """The same events with what is encrypted in them as it was, as far as this session may see keys.

    What belongs to a subject that was forgotten is `FORGOTTEN`; what there is no key for stays as it is stored.
    """
    found = [_unveiled_metadata(event) for event in events]
    wanted: set[int] = set()
    for event in found:
        if isinstance(event.payload, Veiled):
            wanted |= keys_wanted(event.payload.payload)
    keys: dict[int, bytes | None] = {}
    if wanted:
        if can_open():
            rows = yield TO_READ, {"ids": jsonb.encode(sorted(wanted))}
            keys = {
                key_id: None if forgotten else bytes(key)
                for key_id, key, forgotten in rows
                if forgotten or key is not None
            }
        else:
            _log.warning("private values stay encrypted: install the package cryptography (wakelog[forget])")
    return [
        replace(event, payload=opened(event.payload.payload, keys, event.id, _log.warning))
        if isinstance(event.payload, Veiled)
        else event
        for event in found
    ]


def events_of(
    connection: Any, rows: Rows
) -> "Generator[tuple[Statement, dict[str, Any]], Rows, list[Event]]":
    """The events of rows with `COLUMNS`, shown; asks for nothing where nothing is encrypted."""
    if not isinstance(connection, psycopg.Connection | psycopg.AsyncConnection):
        rows = _veiled(rows)  # read by another driver, or by SQLAlchemy
    events = [Event.from_row(row) for row in rows]
    return (yield from shown(events)) if any(map(is_veiled, events)) else events


def is_veiled(event: Event) -> bool:
    """Whether something in an event that was read may be encrypted."""
    metadata: Any = event.metadata
    return type(event.payload) is Veiled or type(metadata) is Veiled


def _veiled(rows: Rows) -> Rows:
    """Rows of events whose JSON another driver has read, with a `Veiled` payload where there is an envelope."""
    return [
        (*row[:6], Veiled(row[6]), *row[7:]) if next(envelopes(row[6]), None) is not None else row
        for row in rows
    ]


def _unveiled_metadata(event: Event) -> Event:
    metadata: Any = event.metadata
    return replace(event, metadata=metadata.payload) if isinstance(metadata, Veiled) else event


def _uuid7() -> UUID:
    """A version 7 UUID, as wakelog.uuid7() makes them; private values are bound to their event's."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
