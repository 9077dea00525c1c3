"""The doorkeeper's second duty: to seal what is in the log, every so often, beside everybody's way.

How this stays correct
----------------------
      wait --> is sealing on? --> seal a piece, rest as long as that took, the next piece ... --> wait

All of it is in wakelog.seal, one short transaction for each piece: killed at any moment, the piece is sealed or it is
not, and the next sealer goes on behind the last seal. It has a connection of its own, so that the doorkeeper, who
must answer within milliseconds, never waits for it. Two sealers at once (behind a pooler everybody is doorkeeper)
take turns by a lock of the database.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
from psycopg import AsyncConnection

from wakelog.errors import WakelogError, one_line, translate
from wakelog.integrity.sealing import MOST_AT_ONCE
from wakelog.postgres.connect import connect_async

log = logging.getLogger("wakelog.sealer")

LONGEST = 0.25
"""Seconds a piece may take; the next one is smaller. Events may be large."""
FEWEST_AT_ONCE = 16
LONGEST_UNASKED = 10.0
"""Seconds after which it asks again whether sealing is on, and how often it is to be."""
AFTER_FAILURE = 60.0
"""Seconds until the next try, where one has failed."""


class Sealer:
    """Seals while its `run` runs."""

    def __init__(self, url: str, *, listening: bool = True) -> None:
        self._url = url
        self._listening = listening
        self._limit = MOST_AT_ONCE

    async def run(self) -> None:
        """Seal until cancelled. What goes wrong is told in the log, and tried again. Raises nothing else."""
        while True:
            try:
                async with await connect_async(
                    self._url,
                    application_name="wakelog sealer",
                    prepare_threshold=5 if self._listening else None,
                ) as connection:
                    await self._keep_at_it(connection)
            except (psycopg.Error, WakelogError) as error:
                translated = translate(error) if isinstance(error, psycopg.Error) else error
                log.warning("not sealed, again in %.0f s: %s", AFTER_FAILURE, one_line(translated or error))
                await asyncio.sleep(AFTER_FAILURE)

    async def _keep_at_it(self, connection: AsyncConnection[Any]) -> None:
        sealed_at = time.monotonic()
        while True:
            enabled, every = await self._settings(connection)
            due_in = sealed_at + every - time.monotonic()
            if due_in > 0:
                await asyncio.sleep(min(due_in, LONGEST_UNASKED))
                continue
            sealed_at = time.monotonic()
            if enabled:
                await self._seal(connection)

    async def _seal(self, connection: AsyncConnection[Any]) -> None:
        """Seal everything there is, in pieces."""
        while True:
            began = time.monotonic()
            cursor = await connection.execute("select wakelog.seal(%s)", [self._limit])
            row = await cursor.fetchone()
            took = time.monotonic() - began
            if row is None or row[0] is None or row[0] < self._limit:
                return
            if took > LONGEST:
                self._limit = max(self._limit // 2, FEWEST_AT_ONCE)
            elif took < LONGEST / 4:
                self._limit = min(self._limit * 2, MOST_AT_ONCE)
            await asyncio.sleep(took)

    async def _settings(self, connection: AsyncConnection[Any]) -> tuple[bool, float]:
        cursor = await connection.execute(
            "select enabled, extract(epoch from every)::float8 from wakelog.sealing"
        )
        row = await cursor.fetchone()
        return row if row is not None else (False, AFTER_FAILURE)


@contextlib.asynccontextmanager
async def sealing(url: str, *, listening: bool) -> AsyncGenerator[None]:
    """Seal for as long as this lasts."""
    task = asyncio.create_task(Sealer(url, listening=listening).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
