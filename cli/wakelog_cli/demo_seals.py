"""The end of the demo: everything that is in the log is sealed, and the chain of seals verified."""

import time
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import connected, value
from wakelog_cli.demo_screen import Screen
from wakelog_cli.output import counted
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from psycopg import Connection

WHOLE = 200_000
"""Up to so many positions all of the log is verified, in some two seconds; of a longer one, the demo's own part."""
_PATIENCE = 10.0


def seal_and_verify(url: str, first: int, last: int, screen: Screen) -> dict[str, Any]:
    """Seal and verify the log, which has the demo's events at the positions from `first` to `last`."""
    from wakelog.integrity.verification import Verification

    with connected(url) as connection:
        screen.typed("wakelog seal now")
        sealed = _seal(connection, last)
        before = (
            ""
            if sealed >= last
            else f"; those before them, {last - sealed:,}, the doorkeeper has sealed already"
        )
        screen.say(f"  {counted(sealed, 'event')} sealed now{before}.")
        start = 1 if last <= WHOLE else first
        screen.typed("wakelog verify" + (f" --from {start}" if start > 1 else ""))
        verification = Verification(connection, first=start)
        with Progress("verified", "events", verification.size) as progress:
            for events in verification.run():
                progress.advance(events, events)
    found, newest = verification.finding, verification.newest
    complete = verification.position >= last and verification.events >= last - start + 1
    if found is not None:
        screen.wrong(f"NOT AS SEALED: {found.message}")
    elif not complete:
        screen.wrong(
            f"Expected the log to be sealed up to position {last}, found it so up to {verification.position}."
        )
    else:
        assert newest is not None
        screen.say(
            f"  {counted(verification.events, 'event')} in {counted(verification.seals, 'seal')} as sealed, up to "
            f"position {verification.position:,}; the last seal is {newest.hash.hex()}."
        )
    return {
        "ok": found is None and complete,
        "sealed_now": sealed,
        "events": verification.events,
        "seals": verification.seals,
        "from": start,
        "to": verification.position,
        "last_seal": None if newest is None else newest.hash.hex(),
        "finding": None if found is None else found.document(),
    }


def _seal(connection: "Connection[Any]", last: int) -> int:
    """Seal up to a position at least, however much of that the doorkeeper does meanwhile; how many events were ours."""
    from wakelog.integrity.sealing import seal_now

    sealed = 0
    until = time.monotonic() + _PATIENCE
    while True:
        # Ends early while the doorkeeper is at it.
        sealed += sum(seal_now(connection))
        reached = value(connection, "select coalesce(max(to_position), 0) from wakelog.seals")
        if reached >= last or time.monotonic() > until:
            return sealed
        time.sleep(0.05)
