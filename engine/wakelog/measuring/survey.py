"""Everything `wakelog bench` measures, in its order, in a scratch database with one worker process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

from wakelog.measuring.clients import Throughput, throughput
from wakelog.measuring.deliveries import drain, fill, pause
from wakelog.measuring.latency import insert_to_handler
from wakelog.measuring.server import Commits, Settings, Spread, commits, round_trip, settings, wal_written
from wakelog.measuring.workers import workers
from wakelog.postgres.connect import connect
from wakelog.postgres.listen import probe_listen

_APPEND: LiteralString = "insert into wakelog.events (type, payload) values ($1, $2)"
_EVENT = [b"bench.append", b'{"n": 1}']

# Events to deliver for each second of measuring: more than workers have been seen to do.
_PLENTY = {"no-op": 40_000, "batch": 60_000, "effects": 5_000}

STAGES = (
    "a round trip and a commit", "appends of one client", "appends of many clients", "from insert to handler",
    "deliveries", "deliveries in batches", "deliveries with an effect",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found. Rates are per second."""

    settings: Settings
    listening: bool
    """Whether workers can be woken; behind a transaction-mode pooler they poll."""
    round_trip: Spread
    commits: Commits
    appends_of_one: Throughput
    appends_of_many: Throughput
    clients: int
    wal_a_second: float
    """Bytes of write-ahead log, while many clients appended."""
    insert_to_handler: Spread
    no_ops: float
    batched: float
    effects: float


def survey(
    url: str, *, seconds: float, clients: int, stage: Callable[[str], None] = lambda name: None
) -> Survey:
    """Measure everything, each for about so many seconds.

    ``url`` is a database with Wakelog's schema, no events, and a table ``effects (position bigint)``. ``stage`` is
    called with each of `STAGES` as it begins. Raises `WakelogError` and psycopg's errors.
    """
    with connect(url, application_name="wakelog bench") as connection:
        with workers(url, "wakelog.measuring.agents:all_of_them"):
            stage(STAGES[0])
            said = settings(connection)
            there_and_back = round_trip(connection, seconds / 4)
            committed = commits(connection, seconds)
            stage(STAGES[1])
            one = throughput(url, _APPEND, _EVENT, clients=1, seconds=seconds)
            stage(STAGES[2])
            wal = wal_written(connection)
            many = throughput(url, _APPEND, _EVENT, clients=clients, seconds=seconds)
            wal = wal_written(connection) - wal
            stage(STAGES[3])
            waking = Spread.of(insert_to_handler(connection, count=10_000, seconds=seconds))

            def deliveries(agent: str) -> float:
                pause(connection)
                after = fill(connection, f"bench.{agent}", max(1000, int(_PLENTY[agent] * seconds)))
                return drain(connection, after, seconds=seconds)

            stage(STAGES[4])
            no_ops = deliveries("no-op")
            stage(STAGES[5])
            batched = deliveries("batch")
            stage(STAGES[6])
            effects = deliveries("effects")
        probe = probe_listen(connection)
    return Survey(
        settings=said,
        listening=probe.works and not probe.pooled,
        round_trip=there_and_back,
        commits=committed,
        appends_of_one=one,
        appends_of_many=many,
        clients=clients,
        wal_a_second=wal / seconds,
        insert_to_handler=waking,
        no_ops=no_ops,
        batched=batched,
        effects=effects,
    )
