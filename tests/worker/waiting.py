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


class Looking:
    """Looks for states as `until` does, and adds up by how much its looks came late.

    For so long the machine stood still, or had no time for anybody. What a promise takes is measured without that.
    """

    PUNCTUAL = 0.05
    """Seconds by which a look may come late without being counted."""

    def __init__(self) -> None:
        self.late = 0.0
        """Seconds so far."""

    def until(self, condition: Callable[[], T], *, within: float = 20.0, every: float = 0.02) -> T:
        """As `until`."""
        looked_at = time.monotonic()

        def look() -> T:
            nonlocal looked_at
            found = condition()
            now = time.monotonic()
            late = now - looked_at - every
            self.late += late if late > self.PUNCTUAL else 0.0
            looked_at = now
            return found

        return until(look, within=within, every=every)


def one(connection: psycopg.Connection, query: LiteralString, *parameters: object) -> Any:
    """The one value a query returns; None where it returns no row."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row is not None else None
