"""Reading the log with the models of the code, and counting what cannot be read."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from wakelog_cli.moments import Start
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from psycopg import Connection


@dataclass
class Kind:
    """The events of one type and version."""

    type: str
    version: int
    has_model: bool
    events: int = 0
    readable: int = 0


@dataclass(frozen=True)
class Unreadable:
    """One that cannot be read, and why."""

    position: int
    type: str
    version: int
    error: str


@dataclass
class Reading:
    """What was found so far."""

    events: int = 0
    unreadable: int = 0
    position: int = 0
    """The last one looked at."""
    failures: list[Unreadable] = field(default_factory=list[Unreadable])
    interrupted: bool = False
    by_kind: dict[tuple[str, int], Kind] = field(default_factory=dict[tuple[str, int], Kind])

    def kinds(self) -> list[Kind]:
        return [self.by_kind[key] for key in sorted(self.by_kind)]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "events": self.events,
            "unreadable": self.unreadable,
            "position": self.position,
            "complete": not self.interrupted,
            "types": [asdict(kind) for kind in self.kinds()],
            "failures": [asdict(failure) for failure in self.failures],
        }


def check_log(
    connection: "Connection[Any]",
    start: Start,
    patterns: tuple[str, ...] | None,
    limit: int | None,
    first: int,
) -> Reading:
    """Read the log from `start` on, as far as it reaches now; of each type, keep the first failures.

    In memory it holds counts, a batch of events and those failures. Ctrl-C ends it: `interrupted` tells.
    """
    from wakelog.errors import UnreadableEvent
    from wakelog.log.models import declared
    from wakelog.log.read import head, position_at, read

    upto = head(connection)
    if isinstance(start, datetime):
        after = position_at(connection, start)
    elif isinstance(start, int):
        after = start - 1
    else:
        after = 0 if start == "beginning" else upto
    reading = Reading(position=after)
    shown: dict[str, int] = {}
    try:
        with Progress("checking", "events", max(upto - after, 0)) as progress:
            events = read(connection, after=after, upto=upto, types=patterns)
            for event in islice(events, limit):
                key = (event.type, event.schema_version)
                kind = reading.by_kind.get(key)
                if kind is None:
                    kind = reading.by_kind[key] = Kind(*key, has_model=declared(event.type) is not None)
                kind.events += 1
                try:
                    _ = event.data
                    kind.readable += 1
                except UnreadableEvent as error:
                    reading.unreadable += 1
                    shown[event.type] = shown.get(event.type, 0) + 1
                    if shown[event.type] <= first:
                        reading.failures.append(Unreadable(event.position or 0, *key, str(error.args[0])))
                reading.events += 1
                progress.advance((event.position or 0) - reading.position, 1)
                reading.position = event.position or 0
    except KeyboardInterrupt:
        reading.interrupted = True
    return reading
