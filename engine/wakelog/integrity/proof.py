"""A proof that one event is in the log, as its seal covers it, for somebody who has no database.

It carries the event, the hashes beside the way from it to the root of its seal, and the seal. Whoever checks it
(examples/check_proof.py, which needs nothing but Python) computes all of it again and compares the seal with one that
was exported.
"""

from contextlib import closing
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import tuple_row

from wakelog.errors import WakelogError
from wakelog.integrity import merkle
from wakelog.integrity.record import decode
from wakelog.integrity.records import records
from wakelog.integrity.seal import last_seal, seal_over

FORM = 1
"""The version of this form of a proof."""

_POSITION: LiteralString = """
    select l.position from wakelog.log l join wakelog.events e on e.seq = l.seq where e.id = %s
"""


class NotInTheLog(WakelogError):
    """There is no such event, or it has no position yet."""

    exit_code = 4


class NotSealed(WakelogError):
    """The event is in the log, and no seal covers it yet."""


class NotAsSealed(WakelogError):
    """The event is not what its seal says."""


def proof(connection: Connection[Any], event: int | UUID) -> dict[str, Any]:
    """The proof for an event, given by its position or its id, as a JSON document.

    Raises:
        NotInTheLog: there is none, or it has no position yet.
        NotSealed: no seal covers it yet.
        NotAsSealed: it was changed since, or its seal was.
    """
    at = event if isinstance(event, int) else _position(connection, event)
    with closing(records(connection, at, at)) as found:
        record = next((record for _, record, _ in found), None)
    if record is None:
        raise NotInTheLog(f"there is no event at position {at}", hint="See: wakelog tail")
    seal = seal_over(connection, at)
    if seal is None:
        newest = last_seal(connection)
        upto = f"up to position {newest.to_position}" if newest is not None else "nowhere"
        raise NotSealed(
            f"expected a seal over position {at}, found the log sealed {upto}", hint="Run: wakelog seal now"
        )
    index = at - seal.from_position
    beside = merkle.path(seal.leaves, index) if len(seal.leaves) == seal.count and index >= 0 else []
    if merkle.climb(merkle.leaf_hash(record), index, seal.count, beside) != seal.root:
        raise NotAsSealed(
            f"the event at position {at} is not as it was sealed, or seal {seal.number} was changed",
            hint="See what happened: wakelog verify",
        )
    return {
        "wakelog": "proof",
        "form": FORM,
        "event": decode(record),
        "path": [each.hex() for each in beside],
        "seal": seal.document(),
    }


def _position(connection: Connection[Any], event: UUID) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_POSITION, [event]).fetchone()
    if row is None:
        raise NotInTheLog(f"no event with id {event} is in the log", hint="See: wakelog tail --json")
    return row[0]
