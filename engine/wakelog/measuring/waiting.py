"""Waiting until the database says that something is so."""

import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString

from wakelog.errors import WakelogError
from wakelog.postgres.connect import connect


def wait_until(
    url: str,
    question: LiteralString,
    parameters: Sequence[Any] = (),
    *,
    patience: float = 600.0,
    every: float = 0.02,
    given_up: Callable[[], None] = lambda: None,
) -> None:
    """Ask every so many seconds until the answer is true. ``given_up`` may raise, and is called between two asks.

    Raises `WakelogError` when it is not so after ``patience`` seconds.
    """
    until = time.monotonic() + patience
    with connect(url, application_name="wakelog bench") as connection:
        while True:
            row = connection.execute(question, parameters).fetchone()
            if row is not None and row[0]:
                return
            given_up()
            if time.monotonic() > until:
                raise WakelogError(
                    f"waited {patience:g} s in vain for: {' '.join(question.split())}",
                    hint="See: wakelog doctor",
                )
            time.sleep(every)
