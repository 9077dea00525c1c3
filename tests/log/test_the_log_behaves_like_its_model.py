"""Sessions append, roll back to savepoints, prepare, commit and sequence in any order: a model knows the outcome."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.log.sessions import value

SESSIONS = 4
STREAMS = ["a", "b", "c"]


@dataclass
class Session:
    """A session of the model beside the real one."""

    connection: psycopg.Connection[Any]
    open: bool = False
    wrote: bool = False
    # Events of the transaction, a list for each savepoint above the first.
    levels: list[list[UUID]] = field(default_factory=list)
    prepared: bool = False
    sequencing: bool = False
    # What had its position before this transaction gave out more.
    placed_before: list[UUID] = field(default_factory=list)

    def begin(self) -> None:
        if not self.open:
            self.connection.execute("begin")
            self.open, self.levels = True, [[]]

    def end(self) -> list[UUID]:
        events = [id for level in self.levels for id in level]
        self.open = self.wrote = self.prepared = self.sequencing = False
        self.levels = []
        return events


class Log(RuleBasedStateMachine):
    """The real log, beside a list of what was committed."""

    url: ClassVar[str]
    connections: ClassVar[list[psycopg.Connection[Any]]]
    observer: ClassVar[psycopg.Connection[Any]]
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Log.examples += 1
        self.sessions = [Session(connection) for connection in self.connections]
        # Streams are new in each example; the log goes on.
        self.streams = [f"{name}-{Log.examples}" for name in STREAMS]
        self.holder: dict[str, Session] = {}
        self.committed: list[UUID] = []
        self.observer.execute("select wakelog.sequence()")
        self.base: int = value(self.observer, "select head from wakelog.sequencer")
        self.placed: list[UUID] = []

    def free(self, n: int) -> Session | None:
        session = self.sessions[n]
        return None if session.prepared else session

    @rule(n=st.integers(0, SESSIONS - 1), stream=st.sampled_from([None, 0, 1, 2]))
    def append(self, n: int, stream: int | None) -> None:
        session = self.free(n)
        if session is None:
            return
        name = None if stream is None else self.streams[stream]
        if name is not None and self.holder.setdefault(name, session) is not session:
            return
        session.begin()
        id: UUID = value(
            session.connection,
            "insert into wakelog.events (type, stream) values ('model', %s) returning id",
            [name],
        )
        session.levels[-1].append(id)
        session.wrote = True

    @rule(n=st.integers(0, SESSIONS - 1))
    def append_at_once(self, n: int) -> None:
        session = self.free(n)
        if session is not None and not session.open:
            self.committed.append(
                value(session.connection, "insert into wakelog.events (type) values ('model') returning id")
            )

    @rule(n=st.integers(0, SESSIONS - 1))
    def savepoint(self, n: int) -> None:
        session = self.free(n)
        if session is not None and len(session.levels) < 4:
            session.begin()
            session.connection.execute(f"savepoint s{len(session.levels)}".encode())
            session.levels.append([])

    @rule(n=st.integers(0, SESSIONS - 1), back=st.booleans())
    def end_savepoint(self, n: int, back: bool) -> None:
        session = self.free(n)
        if session is not None and len(session.levels) > 1:
            top = session.levels.pop()
            name = f"s{len(session.levels)}"
            if back:
                session.connection.execute(f"rollback to {name}; release {name}".encode())
            else:
                session.connection.execute(f"release {name}".encode())
                session.levels[-1].extend(top)

    @rule(n=st.integers(0, SESSIONS - 1))
    def prepare(self, n: int) -> None:
        session = self.free(n)
        if session is not None and session.wrote and not session.sequencing:
            session.connection.execute(f"prepare transaction 'model-{n}'".encode())
            session.prepared = True

    @rule(n=st.integers(0, SESSIONS - 1), commit=st.sampled_from([True, True, False]))
    def end(self, n: int, commit: bool) -> None:
        session = self.sessions[n]
        if not session.open:
            return
        word = "commit" if commit else "rollback"
        session.connection.execute((f"{word} prepared 'model-{n}'" if session.prepared else word).encode())
        for stream in [stream for stream, holder in self.holder.items() if holder is session]:
            del self.holder[stream]
        if session.sequencing and not commit:
            # A run that is rolled back takes its positions along.
            self.placed = session.placed_before
        events = session.end()
        if commit:
            self.committed.extend(events)

    @rule(n=st.integers(0, SESSIONS - 1))
    def sequence_inside_a_transaction(self, n: int) -> None:
        session = self.free(n)
        if session is None or session.wrote or len(session.levels) > 1 or session.sequencing:
            return
        session.begin()
        placed = value(session.connection, "select wakelog.sequence()")
        if any(other.sequencing for other in self.sessions):
            assert placed is None
        else:
            assert placed == len(self.committed) - len(self.placed)
            session.sequencing, session.placed_before = True, self.placed
            session.wrote = placed > 0
            self.place(session.connection)

    @precondition(lambda self: not any(session.sequencing for session in self.sessions))
    @rule()
    def sequence(self) -> None:
        assert value(self.observer, "select wakelog.sequence()") == len(self.committed) - len(self.placed)
        self.place(self.observer)

    def place(self, connection: psycopg.Connection[Any]) -> None:
        rows = connection.execute(
            "select position, id from wakelog.log_events where position > %s order by position", [self.base]
        ).fetchall()
        assert [position for position, _ in rows] == list(range(self.base + 1, self.base + len(rows) + 1))
        ids = [id for _, id in rows]
        assert ids[: len(self.placed)] == self.placed, "a position changed"
        assert sorted(ids) == sorted(self.committed), "not every committed event exactly once"
        self.placed = ids

    @invariant()
    def streams_are_in_order(self) -> None:
        rows = self.observer.execute(
            "select stream, array_agg(version order by position) from wakelog.log_events"
            " where position > %s and stream is not null group by stream",
            [self.base],
        ).fetchall()
        for stream, versions in rows:
            assert versions == list(range(1, len(versions) + 1)), f"{stream} is not in order: {versions}"

    def teardown(self) -> None:
        for n in range(SESSIONS):
            self.end(n, True)
        self.sequence()


@pytest.fixture
def machine(database: str) -> Iterator[type[Log]]:
    with psycopg.connect(database, autocommit=True) as observer:
        Log.url, Log.observer = database, observer
        Log.connections = [psycopg.connect(database, autocommit=True) for _ in range(SESSIONS)]
        for connection in Log.connections:
            # A transaction that is going to be prepared may not notify.
            connection.execute("set wakelog.wake = 'off'")
        yield Log
        for n, connection in enumerate(Log.connections):
            connection.close()
            if value(observer, "select count(*) from pg_prepared_xacts where gid = %s", [f"model-{n}"]):
                observer.execute(f"rollback prepared 'model-{n}'".encode())


def test_the_log_behaves_like_its_model(machine: type[Log]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_log_behaves_like_its_model_for_long(machine: type[Log]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=1500,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
