"""What a server answers without Wakelog: its settings, a round trip to it, and a commit on it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import pq
from psycopg.rows import class_row

from wakelog.errors import WakelogError

_SETTINGS: LiteralString = """
    select current_setting('server_version') as version,
           current_setting('fsync')::boolean as fsync,
           current_setting('synchronous_commit') as synchronous_commit,
           current_setting('synchronous_standby_names') <> '' as has_standbys,
           pg_size_bytes(current_setting('shared_buffers')) as shared_buffers,
           pg_size_bytes(current_setting('max_wal_size')) as max_wal_size,
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int as connections,
           (select sum(numbackends)::int from pg_stat_database) as connected,
           current_setting('autovacuum')::boolean as autovacuum,
           extract(epoch from current_setting('autovacuum_naptime')::interval)::float8 as autovacuum_naptime,
           (select case when own.setting::float8 < 0 then common.setting else own.setting end::float8
            from pg_settings own, pg_settings common
            where own.name = 'autovacuum_vacuum_cost_delay' and common.name = 'vacuum_cost_delay') as vacuum_delay,
           (select case when own.setting::int < 0 then common.setting else own.setting end::int
            from pg_settings own, pg_settings common
            where own.name = 'autovacuum_vacuum_cost_limit' and common.name = 'vacuum_cost_limit') as vacuum_limit
"""
_COMMIT = b"insert into effects values (1)"
_FEWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server says of itself. Sizes are in bytes, times in seconds, ``vacuum_delay`` in milliseconds."""

    version: str
    fsync: bool
    synchronous_commit: str
    has_standbys: bool
    """Whether commits wait for standbys, where ``synchronous_commit`` is on."""
    shared_buffers: int
    max_wal_size: int
    connections: int
    """How many there can be, those reserved for superusers left out."""
    connected: int
    """How many there are."""
    autovacuum: bool
    autovacuum_naptime: float
    vacuum_delay: float
    """How long autovacuum rests each time it has done ``vacuum_limit`` worth of work."""
    vacuum_limit: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds: half of the times were no longer than ``p50``, 99 % than ``p99``."""

    p50: float
    p99: float

    @classmethod
    def of(cls, times: Sequence[float]) -> "Spread":
        """Of at least one time."""
        ordered = sorted(times)
        return cls(statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """A one-row commit on one connection, in three ways."""

    as_set: Spread
    """As the server's settings have it."""
    on_disk: Spread
    """Waiting for this server's own disk, whatever the settings say."""
    unwaited: Spread
    """Waiting for nothing (synchronous_commit = off): the round trip and the work."""


def settings(connection: psycopg.Connection[Any]) -> Settings:
    """What the server says of itself; no rights needed."""
    with connection.cursor(row_factory=class_row(Settings)) as cursor:
        found = cursor.execute(_SETTINGS).fetchone()
    assert found is not None
    return found


def round_trip(connection: psycopg.Connection[Any], seconds: float) -> Spread:
    """There and back, for a statement with nothing in it."""
    return Spread.of(_times(lambda: _exec(connection, b""), seconds))


def commits(connection: psycopg.Connection[Any], seconds: float) -> Commits:
    """One-row commits into the table ``effects``, a third of the time for each way."""

    def with_setting(value: bytes) -> Spread:
        _exec(connection, b"set synchronous_commit = " + value)
        return Spread.of(_times(lambda: _exec(connection, _COMMIT), seconds / 3))

    try:
        return Commits(
            as_set=with_setting(b"default"), on_disk=with_setting(b"local"), unwaited=with_setting(b"off")
        )
    finally:
        if not connection.closed:
            connection.execute("reset synchronous_commit")


def wal_written(connection: psycopg.Connection[Any]) -> int:
    """How many bytes of write-ahead log the server has written since ever."""
    row = connection.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def _times(work: Callable[[], None], seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < _FEWEST or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


def _exec(connection: psycopg.Connection[Any], statement: bytes) -> None:
    # libpq's own call: what psycopg adds is as long as a round trip on one machine.
    result = connection.pgconn.exec_(statement)
    wanted = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)
    if result.status not in wanted:
        raise WakelogError(
            f"expected a statement of the measurement to succeed, found: {result.get_error_message()}",
            hint="See: wakelog doctor",
        )
