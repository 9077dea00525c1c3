"""wakelog.workflow_at tells the truth about every moment: what there was, who had finished, what was open."""

from typing import Any, LiteralString

import psycopg
import pytest
from tests.worker.asking import ack, append, claim, fail, register, rows_read, sequence, start_worker
from tests.worker.waiting import one

from wakelog import BadInput, Event, UnknownWorkflow
from wakelog.testing import LogUnderTest
from wakelog.workflows import WorkflowState, workflow_at


@pytest.fixture
def connection(log: LogUnderTest) -> psycopg.Connection[Any]:
    return log.connection


def states(state: WorkflowState) -> dict[tuple[int, str], tuple[str, int]]:
    """By position and agent, the state and the attempts."""
    return {
        (event.position, work.agent): (work.state, work.attempts)
        for event in state.events
        for work in event.work
    }


def moment(connection: psycopg.Connection[Any]) -> Any:
    return one(connection, "select clock_timestamp()")


def test_now_it_is_what_became_of_it(log: LogUnderTest, order: Event) -> None:
    state = workflow_at(log.connection, order.correlation_id)
    by_type: dict[str, list[Any]] = {}
    for event in state.events:
        by_type.setdefault(event.type, []).append(event)
    assert {type_: len(events) for type_, events in by_type.items()} == {
        "order.placed": 1, "part": 3, "plan.completed": 1, "make.completed": 2, "make.failed": 1,
    }  # fmt: skip
    (plan,) = by_type["order.placed"][0].work
    assert (plan.agent, plan.state, plan.outcome, plan.attempts) == ("plan", "finished", "completed", 1)
    broken = next(event.work[0] for event in by_type["part"] if event.payload["n"] == 1)
    assert (broken.state, broken.outcome, broken.attempts) == ("failed", "max_attempts", 2)
    assert (broken.error, broken.steps, len(broken.failures or [])) == ("ValueError: broken", ["cut"], 2)
    made = next(event.work[0] for event in by_type["part"] if event.payload["n"] == 0)
    assert (made.state, made.steps) == ("finished", ["cut", "paint"])
    assert [event.work for event in by_type["plan.completed"]] == [()]


def test_at_every_position_there_is_what_led_to_it_and_nothing_that_came_of_it(
    log: LogUnderTest, order: Event
) -> None:
    whole = workflow_at(log.connection, order.correlation_id)
    for last in whole.events:
        then = workflow_at(log.connection, order.correlation_id, position=last.position)
        assert [event.id for event in then.events] == [
            event.id for event in whole.events if event.position <= last.position
        ]
        there = {event.id for event in then.events}
        for event in then.events:
            answered = [e for e in whole.events if e.causation_id == event.id]
            for work in event.work:
                answers = [e for e in answered if e.source == work.agent]
                if not answers:
                    continue
                # Exactly when its answer is there, an agent has come to its end.
                assert (work.state in ("finished", "failed")) == (answers[0].id in there)
                assert (work.state == "failed") == (
                    answers[0].id in there and answers[0].type == "make.failed"
                )


def test_a_delivery_goes_through_its_states(connection: psycopg.Connection[Any]) -> None:
    register(connection, "quiet", "push", max_attempts=2)
    worker = start_worker(connection, "quiet")
    append(connection, "push", correlation_id="w")
    sequence(connection)
    moments = [moment(connection)]
    claim(connection, "quiet", worker)
    moments.append(moment(connection))
    connection.execute(
        "select wakelog.fail('quiet', 1, %s, 1, 'first', null, '0')", [worker]
    )  # due again at once
    moments.append(moment(connection))
    claim(connection, "quiet", worker)
    moments.append(moment(connection))
    ack(connection, "quiet", worker, [(1, 2, "push")])
    moments.append(moment(connection))
    found = [states(workflow_at(connection, "w", at=at))[1, "quiet"] for at in moments]
    assert found == [("waiting", 0), ("running", 1), ("waiting", 1), ("running", 2), ("finished", 2)]
    # What had not happened yet is not told.
    failed = workflow_at(connection, "w", at=moments[2]).events[0].work[0]
    assert [f["error"] for f in failed.failures or []] == ["first"]
    assert workflow_at(connection, "w", at=moments[1]).events[0].work[0].failures is None


def test_a_dead_letter_that_was_tried_again_was_dead_before(connection: psycopg.Connection[Any]) -> None:
    register(connection, "work", "push")
    worker = start_worker(connection, "work")
    append(connection, "push", correlation_id="w")
    sequence(connection)
    (delivery,) = claim(connection, "work", worker)
    fail(connection, "work", worker, delivery, final=True)
    sequence(connection)
    dead = moment(connection)
    assert states(workflow_at(connection, "w"))[1, "work"] == ("failed", 1)
    connection.execute("select wakelog.retry_dead('work', 1)")
    assert states(workflow_at(connection, "w"))[1, "work"][0] == "waiting"
    assert states(workflow_at(connection, "w", at=dead))[1, "work"] == ("failed", 1)
    ack(connection, "work", worker, claim(connection, "work", worker))
    assert states(workflow_at(connection, "w"))[1, "work"][0] == "finished"
    assert states(workflow_at(connection, "w", at=dead))[1, "work"][0] == "failed"


def test_an_agent_that_came_later_was_not_there(connection: psycopg.Connection[Any]) -> None:
    append(connection, "push", correlation_id="w")
    sequence(connection)
    before = moment(connection)
    register(connection, "late", "push")
    assert states(workflow_at(connection, "w")) == {(1, "late"): ("waiting", 0)}
    assert states(workflow_at(connection, "w", at=before)) == {}


def test_the_log_as_of_a_moment(connection: psycopg.Connection[Any]) -> None:
    append(connection, "one", "two")
    sequence(connection)
    between = moment(connection)
    append(connection, "three")
    sequence(connection)

    def as_of(query: LiteralString, *values: Any) -> list[str]:
        return [row[0] for row in connection.execute(query, values)]

    assert as_of("select type from wakelog.events_as_of(%s)", between) == ["one", "two"]
    assert as_of("select type from wakelog.events_as_of(p_position => %s)", 1) == ["one"]
    assert as_of("select type from wakelog.events_as_of(%s, 1)", between) == ["one"]
    assert as_of("select type from wakelog.events_as_of(now()) where type = 'three'") == ["three"]
    assert as_of("select type from wakelog.events_as_of()") == []


def test_what_cannot_be_asked_is_said(connection: psycopg.Connection[Any]) -> None:
    append(connection, "push", correlation_id="w")
    sequence(connection)
    with pytest.raises(UnknownWorkflow, match="nobody"):
        workflow_at(connection, "nobody")
    with pytest.raises(BadInput, match="expected a position from 1 to 1, found 9"):
        workflow_at(connection, "w", position=9)
    with pytest.raises(BadInput, match="found both"):
        workflow_at(connection, "w", position=1, at=moment(connection))
    append(connection, "push", correlation_id="later")
    sequence(connection)
    with pytest.raises(UnknownWorkflow, match="at position 1"):
        workflow_at(connection, "later", position=1)


def test_a_workflow_of_thousands_of_events_is_seen_as_quickly_an_event(
    connection: psycopg.Connection[Any],
) -> None:
    """What is gathered of it is not looked through once for each of its events."""
    register(connection, "work", "job", history=False)
    worker = start_worker(connection, "work")

    def answered(name: str, count: int) -> None:
        connection.execute(
            "insert into wakelog.events (type, correlation_id) select 'job', %s from generate_series(1, %s)",
            [name, count],
        )
        sequence(connection)
        positions, attempts, _ = zip(*claim(connection, "work", worker), strict=True)
        connection.execute(
            "select wakelog.ack_many('work', %s, %s, %s)", [worker, list(positions), list(attempts)]
        )
        connection.execute(
            """insert into wakelog.events (type, correlation_id, causation_id, source, idempotency_key)
               select 'work.completed', %s, e.id, 'work', 'wakelog:work/' || e.id || '/result'
               from wakelog.events e where e.correlation_id = %s""",
            [name, name],
        )
        sequence(connection)

    def milliseconds(query: LiteralString, name: str, count: int) -> float:
        """The best of three."""
        took = []
        for _ in range(3):
            plan = one(connection, f"explain (analyze, format json) select * from {query}", name)[0]
            assert plan["Plan"]["Actual Rows"] == count
            took.append(plan["Execution Time"])
        return min(took)

    few, many = 400, 3200
    answered("small", few)
    answered("large", many)
    queries: list[tuple[LiteralString, int]] = [
        ("wakelog.workflow_at(%s)", 2),
        ("wakelog.recorded_work(%s)", 1),
    ]
    for query, rows in queries:
        small = milliseconds(query, "small", rows * few)
        large = milliseconds(query, "large", rows * many)
        assert large <= 24 * small, f"{query}: {small} ms for {few} events, {large} ms for {many}"


@pytest.mark.parametrize("told", [False, True], ids=["never analysed", "analysed when it was small"])
@pytest.mark.parametrize(
    "look",
    [
        "select * from wakelog.workflow_events(%(name)s)",
        "select * from wakelog.workflow_at(%(name)s)",
        "select * from wakelog.workflow_at(%(name)s, p_at => now())",
        "select * from wakelog.workflow_at(%(name)s, 10)",
        "select * from wakelog.recorded_work(%(name)s)",
        "select * from wakelog.workflow_summary(%(name)s)",
        "select wakelog.fork_workflow(%(name)s, p_position => 1)",
        "select wakelog.fork_workflow(%(name)s, p_at => now())",
    ],
)
def test_nothing_is_read_but_the_workflow(
    connection: psycopg.Connection[Any], look: LiteralString, told: bool
) -> None:
    """Whatever the planner believes of the log, and whatever it believed when a session first asked."""
    register(connection, "work", "job")
    worker = start_worker(connection, "work")
    append(connection, "job", "note", "note", correlation_id="one")
    append(connection, *["note"] * 10)
    sequence(connection)
    claim(connection, "work", worker)
    if told:
        connection.execute("analyze")
    for _ in range(8):
        with connection.transaction(force_rollback=True):
            connection.execute(look, {"name": "one"})
    connection.execute("insert into wakelog.events (type) select 'note' from generate_series(1, 5000)")
    connection.execute(
        """insert into wakelog.forks (correlation_id, parent, position, reached, as_of)
           select 'fork ' || n, 'other', 4, 4, now() from generate_series(1, 5000) n"""
    )
    sequence(connection)
    with connection.transaction(force_rollback=True):
        before = rows_read(connection, "log", "events", "forks")
        assert connection.execute(look, {"name": "one"}).rowcount >= (0 if "recorded" in look else 1)
        assert 0 < rows_read(connection, "log", "events", "forks") - before <= 150
