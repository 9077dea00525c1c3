"""Whatever is called at the same time, in whatever order, nobody waits for somebody who waits for him."""

import random
import threading
import time

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.worker.sql_worker import Token, append, claim, register, start_worker
from tests.worker.waiting import one, until

SECONDS = 3.0
THREADS = 10
EVENTS = 60
MIXES = {
    "everything": [
        "claim", "claim", "claim", "ack", "ack", "ack_one", "fail", "stall", "release", "heartbeat",
        "heartbeat_of_others", "reap", "stop", "die", "rewind", "retry_dead", "discard_dead", "ring", "sleep",
        "record_step", "register",
    ],
    "workers that come and go": ["die", "come", "reap", "ring", "sleep", "sleep", "heartbeat_of_others"],
    "producers that wait for room": [
        "produce", "produce", "produce", "resize", "claim", "claim", "ack", "ack", "fail", "stall", "release", "ring",
        "reap", "rewind", "retry_dead",
    ],
}  # fmt: skip


class Caller(threading.Thread):
    """Calls one function after the other, at random, as a worker and as an operator would."""

    def __init__(self, url: str, number: int, end: float, mix: list[str]) -> None:
        super().__init__(name=f"caller-{number}", daemon=True)
        self.url = url
        self.end = end
        self.mix = mix
        self.random = random.Random(number)
        self.held: list[Token] = []
        self.called: set[str] = set()
        self.errors: list[psycopg.Error] = []

    def run(self) -> None:
        self.standing = psycopg.connect(self.url, autocommit=True)
        with psycopg.connect(self.url, autocommit=True) as self.connection:
            self.worker = self.start_worker()
            while time.monotonic() < self.end:
                name = self.random.choice(self.mix)
                try:
                    getattr(self, name)()
                    self.called.add(name)
                except psycopg.Error as error:
                    if error.sqlstate == "WL008":
                        self.called.add(name)
                    elif error.sqlstate in ("WL002", "WL007"):
                        self.held.clear()
                        if error.sqlstate == "WL007":
                            self.worker = self.start_worker()
                    else:
                        self.errors.append(error)
        self.standing.close()

    def start_worker(self) -> int:
        """Its lock is held on a connection of its own, as by a real worker."""
        return one(self.standing, "select wakelog.start_worker('caller', '{one,two}', true)")

    def come(self) -> None:
        self.worker = self.start_worker()

    def claim(self) -> None:
        agent = self.random.choice(["one", "two"])
        self.held += claim(self.connection, agent, self.worker, 8, lease=self.random.choice([0.005, 5]))

    def ack(self) -> None:
        agent, mine = self.some()
        self.random.shuffle(mine)
        events = [
            {"position": m.position, "key": str(s), "type": "answer", "stream": f"stream-{s}"}
            for m in mine
            for s in self.random.sample(range(8), 3)
        ]
        self.connection.execute(
            "select wakelog.ack_many(%s, %s, %s, %s, %s)",
            [agent, self.worker, [m.position for m in mine], [m.attempt for m in mine], Jsonb(events)],
        )

    def ack_one(self) -> None:
        for m in self.some()[1][:1]:
            self.connection.execute(
                "select wakelog.ack(%s, %s, %s, %s, '{}')", [m.agent, m.position, m.worker, m.attempt]
            )

    def fail(self) -> None:
        for m in self.some()[1][:3]:
            self.connection.execute(
                "select wakelog.fail(%s, %s, %s, %s, 'no', p_final => %s)",
                [m.agent, m.position, m.worker, m.attempt, self.random.random() < 0.5],
            )

    def release(self) -> None:
        agent, mine = self.some()
        self.random.shuffle(mine)
        self.connection.execute(
            "select wakelog.release(%s, %s, %s, %s)",
            [agent, self.worker, [m.position for m in mine], [m.attempt for m in mine]],
        )

    def stall(self) -> None:
        agent, mine = self.some()
        self.random.shuffle(mine)
        self.connection.execute(
            "select wakelog.stall(%s, %s, %s, %s, 'gone')",
            [agent, self.worker, [m.position for m in mine], [m.attempt for m in mine]],
        )

    def heartbeat(self) -> None:
        self.connection.execute(
            "select wakelog.heartbeat(%s, %s, %s, '1 second')",
            [self.worker, [m.agent for m in self.held], [m.position for m in self.held]],
        )

    def heartbeat_of_others(self) -> None:
        """The watchdog's connection, while the worker's own is at something else."""
        other = one(self.connection, "select id from wakelog.worker_sessions order by random() limit 1")
        positions = self.random.sample(range(1, EVENTS + 1), 20)
        self.connection.execute(
            "select wakelog.heartbeat(%s, %s, %s, '1 second')",
            [other, ["one"] * 10 + ["two"] * 10, positions],
        )

    def reap(self) -> None:
        self.connection.execute("select wakelog.reap_workers()")

    def die(self) -> None:
        """As far as others can tell; what it has in hand it will still try to finish."""
        if self.random.random() < 0.3:
            self.standing.close()
            self.standing = psycopg.connect(self.url, autocommit=True)

    def stop(self) -> None:
        """Now and then of another, whose acknowledgement may be under way on its other connection."""
        if self.random.random() < 0.3:
            other = one(self.connection, "select id from wakelog.worker_sessions order by random() limit 1")
            self.connection.execute("select wakelog.stop_worker(%s)", [other])

    def rewind(self) -> None:
        self.connection.execute(
            "select wakelog.rewind_agent(%s, %s)", [self.random.choice(["one", "two"]), self.position()]
        )

    def retry_dead(self) -> None:
        # Several in one transaction are taken in one order by everybody, as the command does.
        self.connection.execute(
            """select wakelog.retry_dead(d.agent, d.position)
               from (select agent, position from wakelog.dead_letters order by agent, position limit 3) d"""
        )

    def discard_dead(self) -> None:
        self.connection.execute("select wakelog.discard_dead('one', %s)", [self.position()])

    def ring(self) -> None:
        self.connection.execute("select wakelog.sequence()")
        self.connection.execute("select wakelog.ring()")

    def sleep(self) -> None:
        self.connection.execute("select wakelog.fall_asleep(%s, 3)", [self.worker])

    def record_step(self) -> None:
        for m in self.some()[1][:1]:
            self.connection.execute(
                "select wakelog.record_step(%s, %s, %s, %s, 'step', '1')",
                [m.agent, m.position, m.worker, m.attempt],
            )

    def register(self) -> None:
        register(self.connection, self.random.choice(["one", "two"]), max_stalled=2, concurrency=30)

    def produce(self) -> None:
        """Several in one transaction, each of which may wait for room while it holds that of the others."""
        with self.connection.transaction(force_rollback=self.random.random() < 0.2):
            self.connection.execute("set local wakelog.backpressure = '0.05'")
            for _ in range(self.random.randint(1, 4)):
                self.connection.execute("insert into wakelog.events (type) values ('work')")

    def resize(self) -> None:
        register(self.connection, "one", max_stalled=2, capacity=self.random.randint(5, 40))
        register(
            self.connection, "two", max_stalled=2, capacity=self.random.randint(5, 40), overflow="drop_oldest"
        )

    def position(self) -> int:
        return self.random.randint(1, EVENTS)

    def some(self) -> tuple[str, list[Token]]:
        agent = self.random.choice(["one", "two"])
        mine = [held for held in self.held if held.agent == agent]
        self.held = [held for held in self.held if held.agent != agent]
        return agent, mine


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES.keys())
def test_no_call_ends_in_a_deadlock(connection: psycopg.Connection, database: str, mix: list[str]) -> None:
    hammer(connection, database, SECONDS, mix)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES.keys())
def test_no_call_ends_in_a_deadlock_for_long(
    connection: psycopg.Connection, database: str, mix: list[str]
) -> None:
    hammer(connection, database, 300, mix)


def hammer(connection: psycopg.Connection, url: str, seconds: float, mix: list[str]) -> None:
    for agent in ("one", "two"):
        register(connection, agent, max_stalled=2)
    append(connection, EVENTS)
    end = time.monotonic() + seconds
    callers = [Caller(url, number, end, mix) for number in range(THREADS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(seconds + 30)
        assert not caller.is_alive(), "it waits for ever"
    errors = [
        f"{error.sqlstate} {error} {error.diag.context}" for caller in callers for error in caller.errors
    ]
    assert errors == [], "\n\n".join(errors)
    called = {name for caller in callers for name in caller.called}
    assert called == set(mix), "the test did not do what it was made for"


def nobody_is_left(connection: psycopg.Connection) -> None:
    """Wait until the workers are dead whose sessions were closed: a server's process ends after its client."""
    until(lambda: not one(connection, "select bool_or(alive) from wakelog.workers"))


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_nobody_waits_for_work_that_is_being_finished(
    connection: psycopg.Connection, database: str, end: str
) -> None:
    """A handler's transaction holds its delivery from acknowledgement to commit. All others go around it."""
    register(connection, "agent")
    append(connection, 2)
    with psycopg.connect(database, autocommit=True) as standing:
        worker = start_worker(standing, "agent", locked=True)
        first, second = claim(connection, "agent", worker, 2, lease=3600)
    nobody_is_left(connection)
    with psycopg.connect(database) as handler, psycopg.connect(database, autocommit=True) as other:
        ack = "select wakelog.ack('agent', %s, %s, 1)"
        handler.execute(ack, [second.position, worker])

        other.execute("set lock_timeout = '1s'")
        assert one(other, "select wakelog.heartbeat(%s, '{agent,agent}', '{1,2}', '2 hours')", worker) == 1
        other.execute("select wakelog.reap_workers()")
        other.execute("select wakelog.ring()")
        assert [t.position for t in claim(other, "agent", start_worker(other, "agent"), 2)] == [
            first.position
        ]

        (handler.commit if end == "commit" else handler.rollback)()
        other.execute("select wakelog.reap_workers()")
        left = [second.position] if end == "rollback" else []
        assert [t.position for t in claim(other, "agent", start_worker(other, "agent"), 2)] == left
        # Stopping goes around it as well.
        worker = start_worker(other, "agent")
        append(connection, 2)
        third, fourth = claim(other, "agent", worker, 2)
        handler.execute(ack, [fourth.position, worker])
        other.execute("select wakelog.stop_worker(%s)", [worker])
        assert [t.position for t in claim(other, "agent", start_worker(other, "agent"), 2)] == [
            third.position
        ]


@pytest.mark.parametrize("function", ["reap_workers", "ring"])
def test_workers_are_locked_in_the_order_of_their_ids(
    connection: psycopg.Connection, database: str, function: str
) -> None:
    """While it waits for the first, it holds nobody else: so that two who want several cannot wait for each other."""
    register(connection, "agent")
    append(connection, 10)
    with psycopg.connect(database, autocommit=True) as standing:
        # In the table, the higher id comes first.
        first, second = (
            start_worker(standing, "agent", locked=True),
            start_worker(standing, "agent", locked=True),
        )
        for worker in (second, first):
            connection.execute("select wakelog.fall_asleep(%s, 1)", [worker])
    nobody_is_left(connection)
    with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as caller:
        holder.execute("select wakelog.fall_asleep(%s, 1)", [first])
        call = threading.Thread(target=caller.execute, args=[f"select wakelog.{function}()"])
        call.start()
        waits = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
        until(lambda: one(connection, waits, caller.info.backend_pid))
        connection.execute("set lock_timeout = '1s'")
        connection.execute("select wakelog.fall_asleep(%s, 1)", [second])
        holder.commit()
        call.join(10)
        assert not call.is_alive()
