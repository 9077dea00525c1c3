"""Somebody's private data, appended, forgotten and read; for the tests of what is private."""

from typing import Any

import psycopg
from tests.log.sessions import value

from wakelog import FORGOTTEN, append, read
from wakelog.log.connections import translated

Connection = psycopg.Connection[Any]
ADA = {"name": "Ada Lovelace", "address": {"street": "St James's Square", "city": "London"}, "plan": "pro"}
PRIVATE = {"name": "customer-17", "address.street": "customer-17"}
GONE = {"name": FORGOTTEN, "address": {"street": FORGOTTEN, "city": "London"}, "plan": "pro"}
KEYS = "select count(*) from wakelog.subject_keys"


def append_ada(connection: Any, **more: Any) -> Any:
    """Append what is private of one subject; `more` is for `append`."""
    return append(connection, "customer.joined", ADA, stream="customer-17", private=PRIVATE, **more)


def forget(connection: Connection, subject: str = "customer-17") -> bool:
    """Whether it was forgotten just now; errors are those of Wakelog."""
    with translated():
        return value(connection, "select wakelog.forget(%s)", [subject])


def payloads(connection: Connection) -> list[Any]:
    """Those of the whole log, in its order, as this connection reads them."""
    value(connection, "select wakelog.sequence()")
    return [event.payload for event in read(connection)]
