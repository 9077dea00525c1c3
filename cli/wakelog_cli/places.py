"""Where in the log a place is that somebody typed."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.moments import Start

if TYPE_CHECKING:
    from psycopg import Connection


def position_of(connection: "Connection[Any]", place: Start) -> int:
    """The last position at that place. Raises `Failure` (2) for a position that the log has not reached."""
    from wakelog.log.read import head, position_at

    if place == "beginning":
        return 0
    if isinstance(place, datetime):
        return position_at(connection, place)
    end = head(connection)
    if place == "now":
        return end
    if int(place) > end:
        raise Failure(
            f"expected a position from 0 to {end}, found {place}",
            ExitCode.BAD_INPUT,
            next_command="see the last ones: wakelog tail --from 10m",
        )
    return int(place)
