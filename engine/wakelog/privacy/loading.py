"""JSON as psycopg reads it from rows of which one must not spoil the others, and in which something may be encrypted.

A value in which something may be is `Veiled`, and one that Python cannot read an `Unreadable`. The whole of it is one
function, since it is called for every event that is delivered.
"""

from typing import Any

import orjson
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from wakelog.postgres import jsonb
from wakelog.privacy.fields import Veiled, looks_veiled

_EMPTY = b"\x01{}"


class _Text(Loader):
    def load(self, data: Buffer) -> Any:
        text = bytes(data)
        value = jsonb.decode_or_tell(text)
        return Veiled(value) if looks_veiled(text) else value


class _Binary(Loader):
    """Of jsonb alone: a version number, which is 1, and the text."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        text = bytes(data)
        if text == _EMPTY:
            return {}
        text = text[1:]
        try:
            value = orjson.loads(text)
        except ValueError:
            value = jsonb.decode_or_tell(text)
        return Veiled(value) if looks_veiled(text) else value


def read_json_veiled(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    """Have a cursor read JSON so."""
    for type_ in ("json", "jsonb"):
        cursor.adapters.register_loader(type_, _Text)
    cursor.adapters.register_loader("jsonb", _Binary)
