"""Seals: as the database has them, and as people take them home."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, LiteralString, Self

from psycopg import Connection
from psycopg.rows import tuple_row

from wakelog.errors import BadInput
from wakelog.integrity import merkle
from wakelog.integrity.record import microseconds, text_of_time

FORM = 1
"""The version of what is hashed of a seal."""

NOTHING_BEFORE = bytes(merkle.SIZE)
"""What the first seal has for the hash of the one before it."""

_FIELDS = ("number", "from", "to", "count", "root", "previous", "sealed_at", "hash")

_SEALS: LiteralString = """
    select number, from_position, to_position, count, root, previous, sealed_at, hash,
           case when %(leaves)s then leaves end
    from wakelog.seals where number >= %(number)s order by number limit %(limit)s
"""
_OVER: LiteralString = """
    select number, from_position, to_position, count, root, previous, sealed_at, hash, leaves
    from wakelog.seals where to_position >= %(position)s order by to_position limit 1
"""


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal. `leaves` are the hashes of its events, empty where nobody asked for them."""

    number: int
    from_position: int
    to_position: int
    count: int
    root: bytes
    previous: bytes
    sealed_at: str
    """In UTC, with six digits after the second."""
    hash: bytes
    leaves: tuple[bytes, ...] = ()

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """The seal of a row with the columns of wakelog.seals."""
        number, from_position, to_position, count, root, previous, sealed_at, hash_, leaves = row
        at: datetime = sealed_at
        return cls(
            number, from_position, to_position, count, root, previous, text_of_time(at), hash_,
            tuple(merkle.split(leaves or b"")),
        )  # fmt: skip

    def own_hash(self) -> bytes:
        """What `hash` must be, computed from the other fields (see sql/functions/seal_hash.sql)."""
        fields: list[tuple[int, bytes]] = [
            (23, struct.pack("!i", FORM)),
            (20, struct.pack("!q", self.number)),
            (20, struct.pack("!q", self.from_position)),
            (20, struct.pack("!q", self.to_position)),
            (23, struct.pack("!i", self.count)),
            (17, self.root),
            (17, self.previous),
            (1184, struct.pack("!q", microseconds(self.sealed_at))),
        ]
        record = struct.pack("!i", len(fields)) + b"".join(
            struct.pack("!ii", number, len(written)) + written for number, written in fields
        )
        return sha256(b"\x02" + record).digest()

    def document(self) -> dict[str, Any]:
        """As JSON has it, hashes in hexadecimal."""
        return {
            "number": self.number,
            "from": self.from_position,
            "to": self.to_position,
            "count": self.count,
            "root": self.root.hex(),
            "previous": self.previous.hex(),
            "sealed_at": self.sealed_at,
            "hash": self.hash.hex(),
        }

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """The seal of a `document`. Raises `BadInput` for anything else, and where the hash is not that of the rest."""
        try:
            if set(document) != set(_FIELDS):
                raise ValueError(f"expected the fields {', '.join(_FIELDS)}, found {', '.join(document)}")
            values = [document[name] for name in _FIELDS]
            for place in (4, 5, 7):
                values[place] = bytes.fromhex(values[place])
            seal = cls(*values)
            is_whole = seal.own_hash() == seal.hash
        except (TypeError, ValueError, KeyError, struct.error) as error:
            raise BadInput(f"expected a seal, found something else: {error}") from None
        if not is_whole:
            raise BadInput(f"seal {seal.number} of the file is not as it was exported: its hash is another")
        return seal


def seals(
    connection: Connection[Any], *, number: int = 1, limit: int | None = None, leaves: bool = False
) -> list[Seal]:
    """Seals from that number on, in order."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(_SEALS, {"number": number, "limit": limit, "leaves": leaves})
        return [Seal.from_row(row) for row in cursor]


def each_seal(connection: Connection[Any], *, number: int = 1, at_once: int = 1000) -> Iterator[Seal]:
    """All seals from that number on, without their leaves, read so many at a time."""
    while page := seals(connection, number=number, limit=at_once):
        yield from page
        number = page[-1].number + 1


def seal_over(connection: Connection[Any], position: int) -> Seal | None:
    """The seal that covers a position, with its leaves; None while there is none."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        row = cursor.execute(_OVER, {"position": position}).fetchone()
    return None if row is None else Seal.from_row(row)


def last_seal(connection: Connection[Any]) -> Seal | None:
    """The newest seal; None before the first."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select max(number) from wakelog.seals").fetchone()
    if row is None or row[0] is None:
        return None
    found = seals(connection, number=row[0], limit=1)
    return found[0] if found else None


def exported(text: str) -> list[Seal]:
    """The seals of an export, in order. Raises `BadInput` for what is none, or was changed since."""
    try:
        document: Any = json.loads(text)
        entries = document["seals"]
        if document["wakelog"] != "seals" or document["form"] != FORM or not isinstance(entries, list):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            "expected seals as they were exported, found something else", hint="Make one: wakelog seal export"
        ) from None
    found = [Seal.from_document(entry) for entry in entries]  # pyright: ignore[reportUnknownVariableType]
    if not found:
        raise BadInput("expected at least one seal, found none", hint="Make one: wakelog seal now")
    return sorted(found, key=lambda seal: seal.number)
