"""wakelog.workflows: the latest first, in their states, and no more of the log read than that takes."""

from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.worker.asking import ack, append, claim, fail, register, rows_read, sequence, start_worker
from tests.worker.waiting import one

from wakelog import BadInput
from wakelog.testing import LogUnderTest
from wakelog.workflows import State, workflows


@pytest.fixture
def connection(log: LogUnderTest) -> psycopg.Connection[Any]:
    return log.connection


@pytest.fixture
def four(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Four workflows, in the order in which they ended last: done, failed, running, waiting."""
    register(connection, "work", "job")
    worker = start_worker(connection, "work")
    for name in ("done", "failed", "running"):
        append(connection, "job", correlation_id=name)
    sequence(connection)
    first, second, _ = claim(connection, "work", worker)
    ack(connection, "work", worker, [first])
    fail(connection, "work", worker, second, final=True)
    append(connection, "note", correlation_id="running")
    append(connection, "job", correlation_id="waiting")
    sequence(connection)
    return connection


def names(connection: psycopg.Connection[Any], **filters: Any) -> list[str]:
    return [one.correlation_id for one in workflows(connection, **filters)]


def test_each_is_in_its_state(four: psycopg.Connection[Any]) -> None:
    found = workflows(four)
    assert [(one.correlation_id, one.state) for one in found] == [
        ("waiting", "waiting"), ("running", "running"), ("failed", "failed"), ("done", "done"),
    ]  # fmt: skip
    running = found[1]
    assert (running.events, running.first_type, running.last_type) == (2, "job", "note")
    assert (running.running, running.waiting, running.dead, running.parent) == (1, 0, 0, None)
    assert running.duration == running.last_at - running.began_at
    assert (found[2].last_type, found[2].dead) == ("work.failed", 1)


@pytest.mark.parametrize("state", ["running", "waiting", "failed", "done"])
def test_a_state_is_asked_for(four: psycopg.Connection[Any], state: State) -> None:
    assert names(four, state=state) == [state]
    assert names(four, state=state, type="nothing.#") == []


def test_filters_hold_together(four: psycopg.Connection[Any]) -> None:
    assert names(four, type="note") == ["running"]
    assert names(four, type="*.failed") == ["failed"]
    assert names(four, type="#", limit=2) == ["waiting", "running"]
    assert names(four, since=one(four, "select sequenced_at from wakelog.log where position = 3")) == [
        "waiting", "running", "failed",
    ]  # fmt: skip
    with pytest.raises(BadInput, match='found "odd"'):
        names(four, state="odd")


def test_a_list_goes_on_where_another_ended(connection: psycopg.Connection[Any]) -> None:
    for n in range(3):
        append(connection, *["a"] * 3, correlation_id=f"w{n}")
    append(connection, "a", correlation_id="w0")
    sequence(connection)
    page = workflows(connection, limit=2)
    assert [one.correlation_id for one in page] == ["w0", "w2"]
    assert names(connection, below=page[-1].last_position) == ["w1"]


def test_many_pages_of_the_log_are_walked(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "insert into wakelog.events (type, correlation_id)"
        " select case when n % 700 = 0 then 'rare' else 'often' end, 'w' || n % 1500 from generate_series(1, 4000) n"
    )
    sequence(connection)
    latest = "select correlation_id from wakelog.events group by 1 order by max(seq) desc"
    expected = [name for (name,) in connection.execute(latest).fetchall()]
    assert names(connection, limit=10000) == expected
    rare = "select correlation_id from wakelog.events where type = 'rare' group by 1 order by max(seq) desc"
    expected = [name for (name,) in connection.execute(rare).fetchall()]
    assert names(connection, type="rare", limit=10000) == expected


def test_no_more_is_read_than_it_takes(connection: psycopg.Connection[Any]) -> None:
    """On a log of 20,000 events, the latest ten and those that failed cost a few hundred pages, not thousands."""
    connection.execute(
        "insert into wakelog.events (type, correlation_id, payload)"
        " select 'job', 'w' || n / 5, jsonb_build_object('text', repeat('x', 300)) from generate_series(1, 20000) n"
    )
    sequence(connection)
    connection.execute("vacuum analyze")
    register(connection, "work", "job")
    worker = start_worker(connection, "work")
    for delivery in claim(connection, "work", worker, limit=3):
        fail(connection, "work", worker, delivery, final=True)
    connection.execute("update wakelog.cursors set position = 20000")

    def pages(arguments: str) -> int:
        query = sql.SQL("explain (analyze, buffers, format json) select * from wakelog.workflows({})")
        plan = one(connection, query.format(sql.SQL(arguments)).as_string())[0]["Plan"]  # pyright: ignore
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    everything: int = one(connection, "select relpages from pg_class where oid = 'wakelog.events'::regclass")
    assert everything > 1000
    pages("p_limit => 1")  # the catalogue
    assert pages("p_limit => 10") < 15000  # to list them all: 380,000
    assert pages("p_state => 'failed'") < 1000
    assert len(workflows(connection, state="failed")) == 1


def test_a_workflow_of_very_many_events_is_met_once(connection: psycopg.Connection[Any]) -> None:
    """It is what the walk from the log's end finds again and again, until it comes to what is before it."""
    events = 20_000
    for name in ("first", "second"):
        append(connection, "job", correlation_id=name)
    connection.execute(
        "insert into wakelog.events (type, correlation_id) select 'job', 'import' from generate_series(1, %s)",
        [events],
    )
    sequence(connection)
    connection.execute("vacuum analyze wakelog.events, wakelog.log")
    with connection.transaction():
        before = rows_read(connection, "log", "events")
        found = connection.execute(
            "select correlation_id from wakelog.recent_workflows(0, 9223372036854775807, null, 3)"
        ).fetchall()
        assert found == [("import",), ("second",), ("first",)]
        assert rows_read(connection, "log", "events") - before <= 8 * events
    assert names(connection, limit=2) == ["import", "second"]
    below = one(connection, "select max(position) from wakelog.log")
    rest = connection.execute(
        "select correlation_id from wakelog.workflows(p_below => %s)", [below]
    ).fetchall()
    assert rest == [("second",), ("first",)], "what has a later event is not below it"


def test_the_few_that_are_done_are_found_for_what_it_costs_to_pass_the_others(
    connection: psycopg.Connection[Any],
) -> None:
    """Not one window of the log after the other for each of them, or a look at more than are asked for."""
    others = 2000
    register(connection, "work", "job")
    for name in ("first", "second"):
        append(connection, "note", correlation_id=name)
    connection.execute("insert into wakelog.events (type) select 'job' from generate_series(1, %s)", [others])
    append(connection, "note", correlation_id="last")
    sequence(connection)
    for limit, least in ((1, 0), (3, others)):
        with connection.transaction():
            before = rows_read(connection, "log")
            assert names(connection, state="done", limit=limit) == ["last", "second", "first"][:limit]
            read = rows_read(connection, "log") - before
        assert least < read <= 10 * least + 4000  # a window of 1,000, each joined
