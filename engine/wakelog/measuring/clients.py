"""Many clients at once, each with a connection of its own, that repeat one prepared statement in autocommit.

One thread drives them all with libpq's own calls, as pgbench does, so that little of what is measured is this program.
"""

import contextlib
import selectors
import time
from dataclasses import dataclass
from typing import LiteralString

from psycopg import pq
from psycopg.conninfo import make_conninfo

from wakelog.errors import DatabaseUnreachable, WakelogError
from wakelog.postgres.connect import safe_url, session_defaults

_NAME = b"measured"


@dataclass(frozen=True, slots=True)
class Throughput:
    """What the clients came to."""

    a_second: float
    """Transactions."""
    busy: float
    """The share of its time that this program, and not the server, was at work: near 1, it is the limit."""


def throughput(
    url: str, statement: LiteralString, parameters: list[bytes], *, clients: int, seconds: float
) -> Throughput:
    """Have the clients repeat a statement for so many seconds.

    Raises `DatabaseUnreachable` when there is no room for so many connections, `WakelogError` when the statement fails.
    """
    with contextlib.ExitStack() as open_ones:
        connections = [_connect(url, statement, open_ones) for _ in range(clients)]
        return _run(connections, parameters, seconds)


def _connect(url: str, statement: LiteralString, open_ones: contextlib.ExitStack) -> pq.abc.PGconn:
    conninfo = make_conninfo(url, **session_defaults(url, "wakelog bench"))
    connection = pq.PGconn.connect(conninfo.encode())
    open_ones.callback(connection.finish)
    if connection.status != pq.ConnStatus.OK:
        reason = connection.get_error_message().strip()
        raise DatabaseUnreachable(
            f"no connection to {safe_url(url)}: {reason}",
            hint="Fewer --clients, or see who is connected: select * from pg_stat_activity",
        )
    _expect(connection, connection.prepare(_NAME, statement.encode()), pq.ExecStatus.COMMAND_OK)
    connection.nonblocking = 1
    return connection


def _run(connections: list[pq.abc.PGconn], parameters: list[bytes], seconds: float) -> Throughput:
    done = 0
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        started, at_work = time.monotonic(), time.process_time()
        until = started + seconds
        for connection in connections:
            _send(connection, parameters)
        running = len(connections)
        while running:
            for key, _ in selector.select():
                connection = key.data
                connection.consume_input()
                if connection.is_busy():
                    continue
                while (result := connection.get_result()) is not None:
                    _expect(connection, result, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
                done += 1
                if time.monotonic() < until:
                    _send(connection, parameters)
                else:
                    running -= 1
        took = time.monotonic() - started
    return Throughput(done / took, (time.process_time() - at_work) / took)


def _send(connection: pq.abc.PGconn, parameters: list[bytes]) -> None:
    connection.send_query_prepared(_NAME, parameters)
    connection.flush()  # a statement of a few bytes always fits into the socket's buffer


def _expect(connection: pq.abc.PGconn, result: pq.abc.PGresult, *wanted: pq.ExecStatus) -> None:
    if result.status not in wanted:
        said = connection.get_error_message().strip() or result.get_error_message()
        raise WakelogError(
            f"expected the measured statement to succeed, found: {said}", hint="See: wakelog doctor"
        )
