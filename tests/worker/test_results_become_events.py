from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import append
from tests.worker.waiting import one, until

APP = """
from dataclasses import dataclass
from datetime import date

@dataclass
class Report:
    passed: int
    day: date

@app.agent("report", on="push", start="beginning")
async def report(event, ctx): return Report(7, date(2026, 1, 2))

@app.agent("plain", on="push", start="beginning")
def plain(event, ctx): return {"after": event.payload["after"], "attempt": ctx.attempt}

@app.agent("falsy", on="push", start="beginning")
async def falsy(event, ctx): return 0

@app.agent("silent", on="push", start="beginning")
async def silent(event, ctx): return None

@app.agent("hopeless", on="push", start="beginning", max_attempts=2, backoff=Fixed(0.01))
async def hopeless(event, ctx): raise ValueError("no luck")

@app.agent("refusing", on="push", start="beginning", max_attempts=5)
def refusing(event, ctx): raise DoNotRetry("not for me")

@app.agent("splitter", on="push", start="beginning")
def splitter(event, ctx):
    ctx.emit("scan.wanted", {"part": 1})
    ctx.emit("scan.wanted", {"part": 2}, key="two", source="scanner", metadata={"tenant": 5}, stream="scan-2")
    ctx.emit("scan.wanted")
    return "split"
"""

EVENTS = """
select e.type, e.source, e.payload, e.correlation_id, e.causation_id = cause.id, e.metadata, e.stream,
       regexp_replace(replace(e.idempotency_key, cause.id::text, 'ID'), '^wakelog:|(?<=failed)/[0-9.]+$', '', 'g')
from wakelog.events e cross join wakelog.events cause
where cause.type = 'push' and e.type <> 'push' order by e.type, e.seq
"""


def count(connection: Connection[Any], type_: str) -> int:
    return one(connection, "select count(*) from wakelog.events where type = %s", type_)


def test_success_failure_and_what_was_emitted(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    append(connection, "push", correlation_id="flow", payload={"after": "4c01"})
    workers = start_workers(APP, slots=8)
    until(lambda: one(connection, "select count(*) from wakelog.events") == 10)
    until(lambda: one(connection, "select count(*) from wakelog.deliveries") == 0)
    found = connection.execute(EVENTS).fetchall()
    assert all((correlation, caused) == ("flow", True) for _, _, _, correlation, caused, *_ in found)
    failed = {"position": 1, "attempts": 2, "reason": "max_attempts", "error": "ValueError: no luck"}
    refused = {"position": 1, "attempts": 1, "reason": "do_not_retry", "error": "not for me"}
    assert [(row[0], row[1], row[2], row[7]) for row in found] == [
        ("falsy.completed", "falsy", 0, "falsy/ID/completed"),
        ("hopeless.failed", "hopeless", failed, "hopeless/ID/failed"),
        ("plain.completed", "plain", {"after": "4c01", "attempt": 1}, "plain/ID/completed"),
        ("refusing.failed", "refusing", refused, "refusing/ID/failed"),
        ("report.completed", "report", {"passed": 7, "day": "2026-01-02"}, "report/ID/completed"),
        ("scan.wanted", "splitter", {"part": 1}, "splitter/ID/0"),
        ("scan.wanted", "scanner", {"part": 2}, "splitter/ID/two"),
        ("scan.wanted", "splitter", {}, "splitter/ID/2"),
        ("splitter.completed", "splitter", "split", "splitter/ID/completed"),
    ]
    assert [row[5:7] for row in found if row[0] == "scan.wanted"] == [
        ({}, None), ({"tenant": 5}, "scan-2"), ({}, None),
    ]  # fmt: skip
    outcomes = dict(connection.execute(
        "select a.name, h.outcome from wakelog.history h join wakelog.agents a on a.id = h.agent_id"
    ).fetchall())  # fmt: skip
    assert outcomes == dict.fromkeys(["report", "plain", "falsy", "silent", "splitter"], "completed")
    assert sorted(connection.execute("select agent, reason from wakelog.dead_letters").fetchall()) == [
        ("hopeless", "max_attempts"), ("refusing", "do_not_retry"),
    ]  # fmt: skip

    # Seen again from the beginning, they answer again, and no answer is added; a second death is told.
    for agent in ("report", "plain", "splitter", "refusing"):
        connection.execute("select wakelog.rewind_agent(%s, 1)", [agent])
    until(lambda: one(connection, "select count(*) from wakelog.history where outcome = 'completed'") == 8)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 2)
    assert count(connection, "refusing.failed") == 2
    assert one(connection, "select count(*) from wakelog.events") == 11
    assert workers.supervisor.poll() is None


BAD = """
@app.agent("mixed", on="push", start="beginning", max_attempts=1)
async def mixed(event, ctx):
    match event.payload["kind"]:
        case "no json": return object()
        case "no json emitted": ctx.emit("fine", {"x": object()})
        case "bad type": ctx.emit("not a type")
        case "star type": ctx.emit("a.*")
        case "empty type": ctx.emit("")
        case "bad metadata": ctx.emit("fine", metadata=[1])
        case "same key":
            ctx.emit("fine", key="x")
            ctx.emit("fine", key="x")
        case "key of the result": ctx.emit("fine", key="completed")
        case "empty stream": ctx.emit("fine", stream="")
        case "nul": return "nul \\x00"
        case "refused by the database": ctx.emit("forbidden")
        case "nul error": raise ValueError("nul \\x00 in it")
        case "bad in its transaction":
            await ctx.connection.execute("insert into effects values (1)")
            ctx.emit("not a type")
    return "fine"
"""


def test_an_answer_that_cannot_be_stored_fails_its_own_attempt_and_no_other(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    connection.execute("create table effects (n int)")
    connection.execute("alter table wakelog.events add constraint ours check (type <> 'forbidden')")
    bad = {
        "no json": "the result: expected a value that can be written as JSON, found object",
        "no json emitted": "payload: expected a value that can be written as JSON, found dict",
        "bad type": "type: expected words joined by dots",
        "star type": "found 'a.*'",
        "empty type": "found ''",
        "bad metadata": "metadata: Input should be a valid dictionary, found '[1]'",
        "same key": 'expected a key of its own for each event, found "x" again',
        "key of the result": 'expected a key of its own for each event, found "completed" again',
        "empty stream": "stream: expected None or some text, found empty text",
        "nul": "the result: expected JSON without NUL characters",
        "nul error": "ValueError: nul \ufffd in it",
        "bad in its transaction": "type: expected words joined by dots",
        "refused by the database": "its answer was refused",
    }
    with connection.transaction():
        for kind in bad:
            append(connection, "push", "push", payload={"kind": "good"})
            append(connection, "push", payload={"kind": kind})
        append(connection, "push", payload={"kind": "good"})
    start_workers(BAD, slots=50)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == len(bad))
    until(lambda: count(connection, "mixed.completed") == 2 * len(bad) + 1)
    until(lambda: one(connection, "select count(*) from wakelog.deliveries") == 0)
    assert count(connection, "mixed.failed") == len(bad)
    assert one(connection, "select count(*) from effects") == 0
    errors = dict(connection.execute("select payload ->> 'kind', error from wakelog.dead_letters").fetchall())
    for kind, sentence in bad.items():
        assert sentence in errors[kind], kind
    assert one(connection, "select count(*) from wakelog.workers") == 1  # it never had to start anew


def test_a_payload_reaches_the_handler_as_it_was_appended(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    payloads = ["null", "[1, 2]", '"text"', '{"a": {"b": [null]}}', "9007199254740993", '"\\ud83d\\ude00"']
    for payload in payloads:
        connection.execute("insert into wakelog.events (type, payload) values ('ping', %s::jsonb)", [payload])
    start_workers("""
        @app.agent("echo", on="ping", start="beginning", max_attempts=1)
        def echo(event, ctx): return [event.payload]
    """)
    until(lambda: count(connection, "echo.completed") == len(payloads))
    different = connection.execute(
        """select cause.payload, answer.payload from wakelog.events answer
           join wakelog.events cause on cause.id = answer.causation_id
           where answer.payload <> jsonb_build_array(cause.payload)"""
    ).fetchall()
    assert different == []


def test_a_payload_that_python_can_hardly_read_stops_nobody(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    appended = "insert into wakelog.events (type, payload) values ('ping', %s::jsonb)"
    deep = "[" * 3000 + "]" * 3000
    for payload in ('"before"', "1e400", "1e5000", "1.5e400", deep, f'{{"x": {deep}}}', '"after"'):
        connection.execute(appended, [payload])
    start_workers("""
        @app.agent("echo", on="ping", start="beginning", max_attempts=1)
        def echo(event, ctx): return str(event.payload)[:20]
    """)
    until(lambda: count(connection, "echo.completed") + count(connection, "echo.failed") == 7)
    answers = connection.execute(
        """select answer.payload #>> '{}' from wakelog.events answer
           join wakelog.events cause on cause.id = answer.causation_id
           where answer.type = 'echo.completed' order by cause.seq"""
    ).fetchall()
    assert [answer for (answer,) in answers] == [
        "before", "10000000000000000000", "inf", "15000000000000000000", "after",
    ]  # fmt: skip
    errors = connection.execute("select position, attempts, error from wakelog.dead_letters").fetchall()
    assert [(position, attempts) for position, attempts, _ in errors] == [(5, 1), (6, 1)]
    assert all("JSON cannot be read" in error for _, _, error in errors)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])
def test_a_time_that_python_cannot_read_is_refused_at_the_insert(
    connection: Connection[Any], moment: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="events_times_are_in_years_1_to_9999"):
        connection.execute("insert into wakelog.events (type, occurred_at) values ('ping', %s)", [moment])
