"""A worker as the database sees it: a name, a token, and calls of functions. For tests of what they refuse."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class Token:
    """What fences a delivery."""

    agent: str
    position: int
    worker: int
    attempt: int


def register(connection: psycopg.Connection, agent: str, **options: Any) -> None:
    """Make an agent known; unless told otherwise it wants the type "work" from the beginning."""
    wanted = {"types": ["work"], "start": "beginning", "backoff": {"kind": "fixed", "delay": 0}, **options}
    connection.execute("select wakelog.register_agent(%s, %s)", [agent, Jsonb(wanted)])


def start_worker(connection: psycopg.Connection, agent: str, *, locked: bool = False) -> int:
    row = connection.execute("select wakelog.start_worker('sql', array[%s], %s)", [agent, locked]).fetchone()
    assert row is not None
    return row[0]


def append(connection: psycopg.Connection, count: int = 1) -> None:
    """Append events of the type "work" and give them their positions."""
    connection.execute("select wakelog.append('work') from generate_series(1, %s)", [count])
    connection.execute("select wakelog.sequence()")


def claim(
    connection: psycopg.Connection, agent: str, worker: int, limit: int = 1, lease: float = 30
) -> list[Token]:
    rows = connection.execute(
        "select position, attempt from wakelog.claim(%s, %s, %s, make_interval(secs => %s))",
        [agent, worker, limit, lease],
    ).fetchall()
    return [Token(agent, position, worker, attempt) for position, attempt in rows]


def turn_clock(connection: psycopg.Connection, seconds: float) -> None:
    """Let this session see the time so many seconds ahead."""
    connection.execute("select set_config('wakelog.clock_offset', %s, false)", [f"{seconds} seconds"])
