"""Workers claim, finish, fail, give back and freeze in any order, on a clock that turns: a model knows the outcome."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.worker.asking import claim, register, sequence, start_worker
from tests.worker.waiting import one

LEASE = 60
ATTEMPTS, STALLED = 2, 2
RETRY = 10
"""Seconds after a failure."""


@dataclass
class Work:
    """What the model knows of one event on its way to the agent."""

    state: str = "unclaimed"  # then: held, waiting, dead, done
    worker: int = 0
    attempt: int = 0
    stalled: int = 0
    due: float = 0.0
    """When it may be claimed: now, the time of the next try, or the end of its lease."""
    told: int = 0
    """How often it was given up, each time with an event."""
    stale: list[tuple[int, int]] = field(default_factory=list)
    """(worker, attempt) of those that no longer hold it."""


class Deliveries(RuleBasedStateMachine):
    """One agent of the real database, beside a dictionary."""

    connection: ClassVar[psycopg.Connection[Any]]
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Deliveries.examples += 1
        self.agent = f"agent-{Deliveries.examples}"
        self.now = 0.0
        self.turn(0)
        self.connection.execute("select wakelog.sequence()")
        register(
            self.connection, self.agent, "work", start="now", max_attempts=ATTEMPTS, max_stalled=STALLED,
            backoff={"kind": "fixed", "delay": RETRY},
        )  # fmt: skip
        self.workers = [start_worker(self.connection, self.agent, locked=False) for _ in range(3)]
        self.work: dict[int, Work] = {}
        self.append(3)
        self.claim(0, 5)

    def turn(self, seconds: float) -> None:
        self.now += seconds
        self.connection.execute("select set_config('wakelog.clock_offset', %s, false)", [f"{self.now} s"])

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        sequence(self.connection)  # the answers so far
        before: int = one(self.connection, "select head from wakelog.sequencer")
        self.connection.execute(
            "insert into wakelog.events (type) select 'work' from generate_series(1, %s)", [count]
        )
        sequence(self.connection)
        self.work.update({before + n: Work() for n in range(1, count + 1)})

    @rule(seconds=st.sampled_from([11, 61]))
    def time_passes(self, seconds: int) -> None:
        self.turn(seconds)

    @rule(n=st.integers(0, 2), limit=st.sampled_from([1, 5, 50]))
    def a_worker_lets_its_leases_run_out_and_another_claims(self, n: int, limit: int) -> None:
        self.turn(LEASE + 1)
        self.claim(n, limit)

    @rule(n=st.integers(0, 2), limit=st.sampled_from([1, 5, 50]))
    def claim(self, n: int, limit: int) -> None:
        # Those over which workers died too often are given up first.
        late = [p for p, w in self.work.items() if w.state in ("held", "waiting") and w.due <= self.now]
        for position in late:
            work = self.work[position]
            if work.state == "held" and work.stalled >= STALLED:
                work.state, work.stalled, work.told = "dead", work.stalled + 1, work.told + 1
                work.stale.append((work.worker, work.attempt))
        late = [p for p in late if self.work[p].state != "dead"]
        late.sort(key=lambda p: (self.work[p].due, p))
        fresh = sorted(p for p, w in self.work.items() if w.state == "unclaimed")
        # One in its last chance comes alone, when its turn comes.
        last = [p for p in late if self.work[p].stalled + (self.work[p].state == "held") >= STALLED]
        due_first = [p for p in late if self.work[p].due == self.work[late[0]].due]
        others = [p for p in late if p not in last]
        expected = [*sorted(others[:limit]), *fresh[: limit - len(others[:limit])]]

        got = claim(self.connection, self.agent, self.workers[n], limit, lease=LEASE)
        # Those that are due at the same moment may come in any order.
        if {p for p, _, _ in got} & set(last):
            assert len(got) == 1
            assert got[0][0] in due_first
        else:
            assert not late or {*due_first} - {*last}
            assert len(got) == len(expected)
            assert {p for p, _, _ in got} <= {*others, *fresh}
            assert [p for p, _, _ in got if p in fresh] == [p for p in expected if p in fresh]
        for position, attempt, _ in got:
            work = self.work[position]
            if work.state == "held":
                work.stalled += 1
                work.stale.append((work.worker, work.attempt))
            work.state, work.worker, work.attempt = "held", self.workers[n], work.attempt + 1
            work.due = self.now + LEASE
            assert attempt == work.attempt

    def held(self, n: int) -> tuple[int, Work] | None:
        mine = [(p, w) for p, w in self.work.items() if w.state == "held"]
        return mine[n % len(mine)] if mine else None

    def is_held(self, work: Work) -> bool:
        return work.due > self.now

    @rule(n=st.integers(0, 9))
    def ack(self, n: int) -> None:
        if (found := self.held(n)) is None:
            return
        position, work = found
        call = "select wakelog.ack(%s, %s, %s, %s, '1')"
        self.call(call, [self.agent, position, work.worker, work.attempt], self.is_held(work))
        if self.is_held(work):
            work.state = "done"

    @rule(n=st.integers(0, 9), final=st.booleans())
    def fail(self, n: int, final: bool) -> None:
        if (found := self.held(n)) is None:
            return
        position, work = found
        call = "select wakelog.fail(%s, %s, %s, %s, 'no', p_final => %s)"
        self.call(call, [self.agent, position, work.worker, work.attempt, final], self.is_held(work))
        if self.is_held(work):
            if final or work.attempt - work.stalled >= ATTEMPTS:
                work.state, work.told = "dead", work.told + 1
            else:
                work.state, work.due = "waiting", self.now + RETRY
            work.stale.append((work.worker, work.attempt))

    @rule(n=st.integers(0, 9), worker=st.integers(0, 2))
    def fail_and_be_tried_again(self, n: int, worker: int) -> None:
        self.fail(n, False)
        self.turn(RETRY + 1)
        self.claim(worker, 50)

    @rule(n=st.integers(0, 9), delay=st.sampled_from([0, 20]))
    def give_back(self, n: int, delay: int) -> None:
        if (found := self.held(n)) is None:
            return
        position, work = found
        given = one(
            self.connection, "select wakelog.release(%s, %s, %s, %s, make_interval(secs => %s))",
            self.agent, work.worker, [position], [work.attempt], delay,
        )  # fmt: skip
        assert given == int(self.is_held(work))
        if given:
            # The same number is given out again, so that pair is no token of the past.
            work.state, work.due, work.attempt = "waiting", self.now + delay, work.attempt - 1

    @rule(n=st.integers(0, 9))
    def heartbeat(self, n: int) -> None:
        if (found := self.held(n)) is None:
            return
        position, work = found
        kept = one(
            self.connection, "select wakelog.heartbeat(%s, %s, %s, make_interval(secs => %s))",
            work.worker, [self.agent], [position], LEASE,
        )  # fmt: skip
        assert kept == int(self.is_held(work))
        if kept:
            work.due = self.now + LEASE

    @rule(n=st.integers(0, 9))
    def one_from_the_past_acks(self, n: int) -> None:
        past = [
            (p, worker, attempt)
            for p, w in self.work.items()
            for worker, attempt in w.stale
            if (worker, attempt) != (w.worker, w.attempt) or w.state != "held"
        ]
        if past:
            self.call("select wakelog.ack(%s, %s, %s, %s)", [self.agent, *past[n % len(past)]], False)

    @rule(n=st.integers(0, 9))
    def retry_dead(self, n: int) -> None:
        dead = [(p, w) for p, w in self.work.items() if w.state == "dead"]
        if dead:
            position, work = dead[n % len(dead)]
            assert one(self.connection, "select wakelog.retry_dead(%s, %s)", self.agent, position)
            work.state, work.due, work.attempt, work.stalled, work.stale = "waiting", self.now, 0, 0, []

    def call(self, query: Any, parameters: list[Any], allowed: bool) -> None:
        if allowed:
            self.connection.execute(query, parameters)
            return
        with pytest.raises(psycopg.Error) as refused:
            self.connection.execute(query, parameters)
        assert refused.value.sqlstate == "WL002"

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        rows = self.connection.execute(
            """select 'held', d.position, d.attempt, d.stalled from wakelog.deliveries d
               join wakelog.agents a on a.id = d.agent_id where a.name = %(a)s and d.worker is not null
               union all
               select 'waiting', d.position, d.attempt, d.stalled from wakelog.deliveries d
               join wakelog.agents a on a.id = d.agent_id where a.name = %(a)s and d.worker is null
               union all
               select 'dead', d.position, 0, 0 from wakelog.dead_letters d where d.agent = %(a)s
               union all
               select 'done', h.position, 0, 0 from wakelog.history h
               join wakelog.agents a on a.id = h.agent_id where a.name = %(a)s""",
            {"a": self.agent},
        ).fetchall()
        expected = [
            (w.state, p, *((w.attempt, w.stalled) if w.state in ("held", "waiting") else (0, 0)))
            for p, w in self.work.items()
            if w.state != "unclaimed"
        ]
        assert sorted(rows) == sorted(expected)

    def teardown(self) -> None:
        """Every event was answered as often as it was done or given up."""
        for outcome, times in (
            ("completed", sum(w.state == "done" for w in self.work.values())),
            ("failed", sum(w.told for w in self.work.values())),
        ):
            told = one(
                self.connection,
                "select count(*) from wakelog.events where type = %s",
                f"{self.agent}.{outcome}",
            )
            assert told == times


@pytest.fixture
def machine(database: str) -> Iterator[type[Deliveries]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        Deliveries.connection = connection
        yield Deliveries


def run(machine: type[Deliveries], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )  # fmt: skip


def test_deliveries_behave_like_their_model(machine: type[Deliveries]) -> None:
    run(machine, 100, 50)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_deliveries_behave_like_their_model_for_long(machine: type[Deliveries]) -> None:
    run(machine, 1500, 60)
