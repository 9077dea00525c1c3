"""What to change on a server that was measured: each piece of advice with what was found that speaks for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from wakelog.measuring.survey import Survey

FAR = 0.001
"""Seconds of a round trip from which on it is a network, and not a machine, that is waited for."""
SLOW_DISK = 0.003
"""Seconds a commit waits for the disk, from which on that is what a handler with effects mostly does."""
DEFAULT_BUFFERS = 128 * 2**20
OFTEN = 120.0
"""Seconds between two checkpoints that are too few."""
WORKER = 16
"""Connections of one worker process with its ten slots, at most."""
OURS = 0.8
"""The share of its time from which on the measuring program was the limit."""


@dataclass(frozen=True, slots=True)
class Advice:
    """``about`` what, what was ``found``, and what to ``do``."""

    about: str
    found: str
    do: str


def advise(found: Survey) -> list[Advice]:
    """What would make it faster, most telling first; empty where nothing stands out."""
    return [
        *_the_way(found),
        *_the_disk(found),
        *_the_settings(found),
        *_the_room(found),
        *_the_measuring(found),
    ]


def _the_way(found: Survey) -> Iterator[Advice]:
    there = found.round_trip.p50
    if there > FAR and there > _disk(found):
        yield Advice(
            "round trip",
            f"{_ms(there)} to the server and back, more than its disk takes: every handler waits for it several times",
            "run the workers nearer to the server (same zone, direct connection); or batch=500, which shares it "
            "among many events; or more --slots, which wait at the same time",
        )
    if not found.listening:
        yield Advice(
            "waking",
            "notifications do not arrive, as behind a transaction-mode pooler: workers poll",
            "give workers a direct connection: wakelog worker --database URL",
        )


def _the_disk(found: Survey) -> Iterator[Advice]:
    if not found.settings.fsync:
        yield Advice(
            "fsync",
            "off: the figures are those of a server that may lose all it has in a power cut",
            "alter system set fsync = on, and measure again",
        )
    elif _disk(found) > SLOW_DISK:
        yield Advice(
            "disk",
            f"a commit waits {_ms(_disk(found))} for the disk",
            "put pg_wal on a disk whose cache survives a power cut. Where the last moments before a crash may be lost: "
            "alter role PRODUCER set synchronous_commit = off. Or batch=500, which shares a commit among many events",
        )
    waiting = found.commits.as_set.p50 - found.commits.on_disk.p50
    if found.settings.has_standbys and waiting > FAR:
        yield Advice(
            "standbys",
            f"a commit waits {_ms(waiting)} more for its standbys",
            "a nearer standby, or synchronous_commit = local for those who may lose the last moments in a failover",
        )
    elif found.settings.synchronous_commit == "off":
        yield Advice(
            "synchronous_commit",
            "off: appends are quick, and a crash loses the last of them though they were said to be committed",
            "alter system set synchronous_commit = on, unless that is meant",
        )


def _the_settings(found: Survey) -> Iterator[Advice]:
    settings = found.settings
    if settings.shared_buffers <= DEFAULT_BUFFERS:
        yield Advice(
            "shared_buffers",
            f"{_mb(settings.shared_buffers)}, which is the default or less",
            "a quarter of the server's memory: alter system set shared_buffers = '4GB', and restart",
        )
    # A checkpoint begins when about half of it is full (checkpoint_completion_target).
    between = settings.max_wal_size / 2 / max(found.wal_a_second, 1.0)
    if between < OFTEN:
        yield Advice(
            "max_wal_size",
            f"{_mb(settings.max_wal_size)}: at {_mb(found.wal_a_second)} a second, as the clients wrote just now, a "
            f"checkpoint every {between:.0f} s, after each of which pages are written whole",
            "if that is your load for long: alter system set max_wal_size = '16GB'",
        )
    if not settings.autovacuum:
        yield Advice(
            "autovacuum",
            "off: the tables that claims go through grow, and get slower by the hour",
            "alter system set autovacuum = on",
        )
    elif settings.vacuum_delay > 2 or settings.vacuum_limit < 200 or settings.autovacuum_naptime > 60:
        yield Advice(
            "autovacuum",
            f"throttled: rests {settings.vacuum_delay:g} ms after {settings.vacuum_limit} units of work, and begins "
            f"every {settings.autovacuum_naptime:g} s",
            "alter system set autovacuum_vacuum_cost_delay = '2ms'; the same of autovacuum_vacuum_cost_limit = 1000 "
            "and autovacuum_naptime = '15s'; then: select pg_reload_conf()",
        )


def _the_room(found: Survey) -> Iterator[Advice]:
    room = found.settings.connections - found.settings.connected
    if room < 4 * WORKER:
        yield Advice(
            "max_connections",
            f"{found.settings.connections}, of which {found.settings.connected} were in use: room for "
            f"{max(room, 0) // WORKER} worker processes with 10 slots",
            "alter system set max_connections = 300, and restart; producers may use a pooler",
        )


def _the_measuring(found: Survey) -> Iterator[Advice]:
    if max(found.appends_of_one.busy, found.appends_of_many.busy) > OURS:
        yield Advice(
            "this machine",
            "its processor was the limit of the appends that were measured, not the server",
            "take the appends for a lower bound, or measure from a faster machine",
        )


def _disk(found: Survey) -> float:
    """Seconds a commit waits for the disk: what it takes more than one that does not wait."""
    return max(found.commits.on_disk.p50 - found.commits.unwaited.p50, 0.0)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2g} ms"


def _mb(size: float) -> str:
    return f"{size / 2**20:,.3g} MB"
