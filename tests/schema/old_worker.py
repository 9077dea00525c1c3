"""A worker of revision 0001, and a producer and a doorkeeper of that time: what each of them said to the database.

Frozen: the statements, their arguments and which connection they go over are those of the first schema's code, and must
go on working whatever the schema becomes. It imports nothing of Wakelog. Run as a program,

    python old_worker.py URL

it appends and works until its standard input is closed, finishes what it has in hand, and prints one JSON object: how
many events it appended, how often that was refused at first, and how many deliveries it finished. The first error it
sees ends it, with exit code 1, but for the one that a worker of that time got over: to have waited half a second for a
lock, with which it passed over a claim, and after which it otherwise started anew.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection, sql

LEASE = 10.0

# What each agent declares; `effect` writes through its own transaction, the others do not.
OPTIONS: dict[str, dict[str, Any]] = {
    "effect": {"ordered_by": "payload.key"},
    "answer": {},
    "trouble": {"backoff": {"kind": "fixed", "delay": 0.02}, "max_attempts": 3},
}

REGISTER = "select wakelog.register_agent(%s, %s)"
START_WORKER = "select wakelog.start_worker(%s, %s, %s)"
READY_AGENTS = "select agent from wakelog.ready_agents(%s)"
CLAIM = "select * from wakelog.claim(%s, %s, %s, make_interval(secs => %s))"
FALL_ASLEEP = "select wakelog.fall_asleep(%s, %s)"
WAKE_UP = "select wakelog.wake_up(%s)"
SEQUENCE = "select wakelog.sequence()"
STOP_WORKER = "select wakelog.stop_worker(%s)"
HEARTBEAT = "select wakelog.heartbeat(%s, %s, %s, make_interval(secs => %s))"

ACK_MANY = "select * from wakelog.ack_many(%s, %s, %s, %s, %s)"
FAIL = """select extract(epoch from next - wakelog.clock())::float8
          from wakelog.fail(%s, %s, %s, %s, %s, %s, make_interval(secs => %s), %s) as next"""
RELEASE = "select wakelog.release(%s, %s, %s, %s, make_interval(secs => %s))"
FINISHED_STEPS = "select name, result from wakelog.finished_steps(%s, %s)"
RECORD_STEP = "select wakelog.record_step(%s, %s, %s, %s, %s, %s)"
EXTEND = "select wakelog.extend(%s, %s, %s, %s, make_interval(secs => %s))"
ACK_COMMIT_FORGET = """
    select set_config('lock_timeout', %s, true), wakelog.ack(%s, %s, %s, %s, null, %s);
    commit;
    reset session authorization;
    reset all;
    select pg_catalog.pg_advisory_unlock_all();
    discard temp;
    unlisten *;
"""

DOORKEEPER = "select pg_try_advisory_lock(wakelog.lock_space('doorkeeper'), 0)"
BEACON = "select pg_try_advisory_lock(wakelog.lock_space('beacon'), 0)"
NO_BEACON = "select pg_advisory_unlock(wakelog.lock_space('beacon'), 0)"
IS_RESTORED = "select wakelog.is_restored()"
LOOK = "call wakelog.look(%s, %s)"
REAP = "select wakelog.reap_workers()"
MAKE_PARTITIONS = "select wakelog.make_history_partitions()"

INSERT = "insert into wakelog.events (type, payload) values ('job.wanted', %s)"
COPY = """copy wakelog.events (type, source, stream, payload, metadata, correlation_id, causation_id, schema_version)
          from stdin (encoding 'UTF8')"""
APPEND = """
    select null::bigint as position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           e.correlation_id, e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at
    from wakelog.append(
        cast(%(type)s as text), cast(cast(%(payload)s as text) as jsonb), cast(%(stream)s as text),
        cast(%(expected_version)s as bigint), cast(%(source)s as text), cast(%(idempotency_key)s as text),
        cast(cast(%(metadata)s as text) as jsonb), cast(%(correlation_id)s as text),
        cast(cast(%(causation_id)s as text) as uuid), cast(%(schema_version)s as integer),
        cast(cast(%(occurred_at)s as text) as timestamptz), cast(cast(%(id)s as text) as uuid)
    ) as e
"""
APPEND_MANY = "select count(*) as appended from wakelog.append_many(cast(cast(%(events)s as text) as jsonb))"


def watched(work: Callable[[], None]) -> Callable[[], None]:
    """The same work; what it raises is told on standard error, and ends the process."""

    def run() -> None:
        try:
            work()
        except Exception:
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
            os._exit(1)

    return run


class OldProducer:
    """Appends in each of the ways there were. `finished` is how many events there are by now.

    A function that returns rows of `events` may be refused where it is under way when a column comes: its caller has
    been promised fewer. Nothing is appended then, and the next try succeeds.
    """

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self.url = url
        self.stopping = stopping
        self.finished = 0
        self.refused = 0

    def run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            ways = (self.insert, self.append, self.append_many, self.copy)
            while not self.stopping.wait(0.04):
                ways[random.randrange(len(ways))](connection)

    def insert(self, connection: Connection[Any]) -> None:
        connection.execute(INSERT, [self.next()])

    def append(self, connection: Connection[Any]) -> None:
        row = self.insist(connection, APPEND, self.arguments(self.next()))
        assert len(row) == 14

    def append_many(self, connection: Connection[Any]) -> None:
        events = [self.arguments(self.next()) for _ in range(3)]
        for event in events:
            event["payload"], event["metadata"] = json.loads(event["payload"]), {}
        assert self.insist(connection, APPEND_MANY, {"events": json.dumps(events)}) == (3,)

    def copy(self, connection: Connection[Any]) -> None:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for _ in range(3):
                copy.write(f"job.wanted\t\t\\N\t{self.next()}\t{{}}\t\\N\t\\N\t1\n")

    def insist(self, connection: Connection[Any], query: str, parameters: dict[str, Any]) -> tuple[Any, ...]:
        try:
            row = connection.execute(query.encode(), parameters).fetchone()
        except psycopg.errors.DatatypeMismatch:
            self.refused += 1
            row = connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row

    def next(self) -> str:
        self.finished += 1
        return json.dumps({"n": self.finished, "key": f"k{self.finished % 5}"})

    @staticmethod
    def arguments(payload: str) -> dict[str, Any]:
        return {
            "type": "job.wanted", "payload": payload, "stream": None, "expected_version": None, "source": "",
            "idempotency_key": None, "metadata": "{}", "correlation_id": None, "causation_id": None,
            "schema_version": 1, "occurred_at": None, "id": None,
        }  # fmt: skip


class OldDoorkeeper:
    """Stands for the office, and holds it."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self.url = url
        self.stopping = stopping

    def run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not _value(connection, DOORKEEPER):
                if self.stopping.wait(0.2):
                    return
            assert not _value(connection, IS_RESTORED)
            connection.execute(MAKE_PARTITIONS)
            connection.execute("listen wakelog")
            rung, next_look = -1, 0.0
            while not self.stopping.is_set():
                slow = time.monotonic() >= next_look
                if slow:
                    next_look = time.monotonic() + 1.0
                    connection.execute(REAP)
                row = connection.execute(LOOK, [slow, rung]).fetchone()
                assert row is not None
                rung, found, _ = row
                if found != 0:
                    time.sleep(0.002)
                elif _value(connection, BEACON):
                    try:
                        row = connection.execute(LOOK, [False, rung]).fetchone()
                        assert row is not None
                        rung, found, _ = row
                        if found == 0:
                            for _ in connection.notifies(timeout=0.2, stop_after=1):
                                rung = -1
                    finally:
                        connection.execute(NO_BEACON)


class OldWorker:
    """Claims for every agent, works, and ends each delivery in one of the ways there were."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self.url = url
        self.stopping = stopping
        self.finished = 0
        self.held: dict[tuple[str, int], int] = {}
        self.given_back: set[int] = set()
        self.worker = 0
        self.registered = threading.Event()

    def run(self) -> None:
        with (
            psycopg.connect(self.url, autocommit=True) as session,
            psycopg.connect(self.url, autocommit=True) as lane,
            psycopg.connect(self.url) as own,
        ):
            for agent, options in OPTIONS.items():
                declared = {"types": ["job.wanted"], "start": "beginning", **options}
                session.execute(REGISTER, [agent, json.dumps(declared)])
            name = f"old:{os.getpid()}"
            self.worker = _value(session, START_WORKER, [name, list(OPTIONS), True])
            session.execute("set synchronous_commit = off")
            session.execute("set lock_timeout = '500ms'")
            session.execute(sql.SQL("listen {}").format(sql.Identifier(f"wakelog_worker_{self.worker}")))
            self.registered.set()
            while not self.stopping.is_set():
                # Nothing is in hand here. It goes on under its number, by which it is found.
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    self.look_and_sleep(session, lane, own)
            session.execute(STOP_WORKER, [self.worker])

    def look_and_sleep(self, session: Connection[Any], lane: Connection[Any], own: Connection[Any]) -> None:
        if not self.look(session, lane, own):
            assert _value(session, FALL_ASLEEP, [self.worker, 10])
            if not self.look(session, lane, own):
                for _ in session.notifies(timeout=0.2, stop_after=1):
                    pass
                session.execute(SEQUENCE)
            session.execute(WAKE_UP, [self.worker])

    def look(self, session: Connection[Any], lane: Connection[Any], own: Connection[Any]) -> bool:
        found = False
        for (agent,) in session.execute(READY_AGENTS, [list(OPTIONS)]).fetchall():
            try:
                cursor = session.cursor(binary=True)
                rows = cursor.execute(CLAIM, [agent, self.worker, 10, LEASE]).fetchall()
            except psycopg.errors.LockNotAvailable:
                continue  # the next look is soon enough
            found = found or bool(rows)
            deliveries = [(row[0], row[1], row[11]) for row in rows]
            self.held.update({(agent, position): attempt for position, attempt, _ in deliveries})
            match agent:
                case "effect":
                    for delivery in deliveries:
                        self.effect(own, *delivery)
                case "answer":
                    self.answer(lane, deliveries)
                case _:
                    for delivery in deliveries:
                        self.trouble(lane, *delivery)
        return found

    def effect(self, own: Connection[Any], position: int, attempt: int, payload: dict[str, Any]) -> None:
        """Effects, the answer and the acknowledgement are one transaction."""
        own.execute("insert into effects (key, n) values (%s, %s)", [payload["key"], payload["n"]])
        answer = [self.event(position, "effect", payload["n"])]
        psycopg.ClientCursor(own).execute(
            ACK_COMMIT_FORGET, ["30s", "effect", position, self.worker, attempt, json.dumps(answer)]
        )
        self.done("effect", position)

    def answer(self, lane: Connection[Any], deliveries: list[tuple[int, int, Any]]) -> None:
        """What has finished is acknowledged in batches."""
        answers = [self.event(position, "answer", payload["n"]) for position, _, payload in deliveries]
        positions = [position for position, _, _ in deliveries]
        attempts = [attempt for _, attempt, _ in deliveries]
        parameters = ["answer", self.worker, positions, attempts, json.dumps(answers)]
        acked = {row[0] for row in lane.execute(ACK_MANY, parameters).fetchall()}
        assert acked == set(positions), f"of {positions} only {acked} were still held"
        for position in positions:
            self.done("answer", position)

    def trouble(self, lane: Connection[Any], position: int, attempt: int, payload: dict[str, Any]) -> None:
        """Given back once, failed once, then a step, a longer lease, and done."""
        if position not in self.given_back:
            self.given_back.add(position)
            lane.execute(RELEASE, ["trouble", self.worker, [position], [attempt], 0.01])
            self.held.pop(("trouble", position))
        elif attempt == 1:
            lane.execute(
                FAIL, ["trouble", position, self.worker, attempt, "not yet", "at line 1", None, False]
            )
            self.held.pop(("trouble", position))
        else:
            steps = dict(lane.execute(FINISHED_STEPS, ["trouble", position]).fetchall())
            assert steps == {}
            step = ["trouble", position, self.worker, attempt, "half", json.dumps(payload["n"])]
            assert _value(lane, RECORD_STEP, step) == payload["n"]
            lane.execute(EXTEND, ["trouble", position, self.worker, attempt, LEASE])
            answer = json.dumps([self.event(position, "trouble", payload["n"])])
            lane.execute(ACK_MANY, ["trouble", self.worker, [position], [attempt], answer])
            self.done("trouble", position)

    @staticmethod
    def event(position: int, agent: str, n: int) -> dict[str, Any]:
        return {"position": position, "key": "completed", "type": f"{agent}.completed", "payload": {"n": n}}

    def done(self, agent: str, position: int) -> None:
        self.held.pop((agent, position))
        self.finished += 1


class OldWatchdog:
    """The heartbeat, over a connection of its own."""

    def __init__(self, url: str, worker: OldWorker, stopping: threading.Event) -> None:
        self.url = url
        self.worker = worker
        self.stopping = stopping

    def run(self) -> None:
        self.worker.registered.wait()
        with psycopg.connect(self.url, autocommit=True, prepare_threshold=None) as connection:
            while not self.stopping.wait(0.1):
                held = list(self.worker.held)
                agents, positions = [agent for agent, _ in held], [position for _, position in held]
                connection.execute(HEARTBEAT, [self.worker.worker, agents, positions, LEASE])


def _value(connection: Connection[Any], query: str, parameters: list[Any] | None = None) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def main(url: str) -> None:
    """Append and work until standard input is closed; then print what came of it."""
    stop: defaultdict[str, threading.Event] = defaultdict(threading.Event)
    producer = OldProducer(url, stop["producer"])
    worker = OldWorker(url, stop["worker"])
    roles = {
        "worker": worker.run,
        "doorkeeper": OldDoorkeeper(url, stop["doorkeeper"]).run,
        "watchdog": OldWatchdog(url, worker, stop["watchdog"]).run,
        "producer": producer.run,
    }
    threads = {name: threading.Thread(target=watched(role)) for name, role in roles.items()}
    for thread in threads.values():
        thread.start()
    sys.stdin.read()
    for name in ("producer", "watchdog", "worker", "doorkeeper"):
        stop[name].set()
        threads[name].join()
    told = {"appended": producer.finished, "refused": producer.refused, "finished": worker.finished}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
