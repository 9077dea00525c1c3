"""Waiting for states, never for time."""

import time
from collections.abc import Callable
from typing import Any, LiteralString, TypeVar

import psycopg

T = TypeVar("T")


def until(condition: Callable[[], T], *, within: float = 20.0, every: float = 0.02) -> T:
    """What `condition` returns once that is true; asked again and again, and given up after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"expected a state within {within:g} s that did not come; last seen: {found!r}"
            )
        time.sleep(every)
    return found


def one(connection: psycopg.Connection, query: LiteralString, *parameters: object) -> Any:
    """The one value a query returns; None where it returns no row."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row is not None else None
