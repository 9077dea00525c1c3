"""What an agent emits may have private places: encrypted in the transaction that acknowledges, or not there at all."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.log.test_every_kind_of_connection_appends import KINDS, done, over
from tests.worker.waiting import one, until

from wakelog import FORGOTTEN, BadInput, Fixed, Wakelog, append
from wakelog.testing import LogUnderTest
from wakelog.workflows import rehearse, workflow_at

KEYS = "select count(*)::int from wakelog.subject_keys"
LETTER = {"to": {"name": "Ada Lovelace", "city": "London"}, "plan": "pro"}
PRIVATE = {"to.name": "customer-17"}
GONE = {"to": {"name": FORGOTTEN, "city": "London"}, "plan": "pro"}


@pytest.fixture
def log(database: str) -> Iterator[LogUnderTest]:
    with LogUnderTest(database) as log:
        log.connection.execute("create table effects (n bigint)")
        yield log


async def over_nothing(event, ctx):
    ctx.emit("letter.sent", LETTER, private=PRIVATE)


def over_nothing_in_a_thread(event, ctx):
    ctx.emit("letter.sent", LETTER, private=PRIVATE)


async def over_its_connection(event, ctx):
    await ctx.connection.execute("insert into effects values (%s)", [event.position])
    ctx.emit("letter.sent", LETTER, private=PRIVATE)


def over_its_connection_in_a_thread(event, ctx):
    ctx.connection.execute("insert into effects values (%s)", [event.position])
    ctx.emit("letter.sent", LETTER, private=PRIVATE)


async def of_a_batch(events, ctx):
    for event in events:
        ctx.emit("letter.sent", LETTER, private=PRIVATE, answers=event)


def of_a_batch_over_its_connection(events, ctx):
    ctx.connection.execute("insert into effects values (1)")
    for event in events:
        ctx.emit("letter.sent", LETTER, private=PRIVATE, answers=event)


ONE_BY_ONE = [
    over_nothing, over_nothing_in_a_thread, over_its_connection, over_its_connection_in_a_thread,
]  # fmt: skip
BATCHES = [of_a_batch, of_a_batch_over_its_connection]


def letters(handler: Callable[..., Any], **options: Any) -> Wakelog:
    app = Wakelog("shop")
    if handler in BATCHES:
        options["batch"] = 10
    app.agent("letters", on="customer.joined", backoff=Fixed(0), max_attempts=2, **options)(handler)
    return app


def sent(log: LogUnderTest) -> list[Any]:
    return [event.payload for event in log.events("letter.sent")]


def forget(log: LogUnderTest, subject: str = "customer-17") -> None:
    log.connection.execute("select wakelog.forget(%s)", [subject])


@pytest.mark.parametrize("handler", [*ONE_BY_ONE, *BATCHES])
def test_it_is_read_as_it_was_emitted_until_it_is_forgotten(
    log: LogUnderTest, handler: Callable[..., Any]
) -> None:
    for _ in range(2):
        log.append("customer.joined")
    log.run_until_idle(letters(handler))
    assert sent(log) == [LETTER, LETTER]
    stored: str = one(log.connection, "select string_agg(e::text, '') from wakelog.events e")
    assert "London" in stored
    assert "Lovelace" not in stored
    # Done once more, as after a crash whose commit nobody heard of: there is no second one.
    log.connection.execute("select wakelog.rewind_agent('letters', 1)")
    log.run_until_idle(letters(handler))
    assert sent(log) == [LETTER, LETTER]
    forget(log)
    assert sent(log) == [GONE, GONE]


@pytest.mark.parametrize("handler", [*ONE_BY_ONE, *BATCHES])
def test_about_a_forgotten_one_the_attempt_fails_and_nothing_of_it_is_there(
    log: LogUnderTest, handler: Callable[..., Any]
) -> None:
    append(log.connection, "note", {"x": 1}, private="customer-17")
    forget(log)
    for _ in range(2):
        log.append("customer.joined")
    log.run_until_idle(letters(handler))
    assert sent(log) == []
    dead = log.dead_letters("letters")
    assert [(letter.reason, letter.attempts) for letter in dead] == [("max_attempts", 2)] * 2
    assert all('subject "customer-17" was forgotten at' in (letter.error or "") for letter in dead)
    assert one(log.connection, "select count(*) from effects") == 0
    assert one(log.connection, KEYS) == 0


def test_one_of_several_that_finish_together_fails_alone(log: LogUnderTest) -> None:
    append(log.connection, "note", {"x": 1}, private="customer-3")
    forget(log, "customer-3")

    def each_about_another(events, ctx):
        for event in events:
            ctx.emit("letter.sent", {"n": event.payload["n"]}, private=f"customer-{event.payload['n']}",
                     answers=event)  # fmt: skip

    for n in range(6):
        log.append("customer.joined", {"n": n})
    app = Wakelog("shop")
    app.agent("letters", on="customer.joined", batch=10, max_attempts=1)(each_about_another)
    log.run_until_idle(app)
    assert sorted(payload["n"] for payload in sent(log)) == [0, 1, 2, 4, 5]
    assert len(log.dead_letters("letters")) == 1


@pytest.mark.parametrize("handler", [over_nothing, over_its_connection_in_a_thread])
def test_an_attempt_that_failed_first_emits_once(log: LogUnderTest, handler: Callable[..., Any]) -> None:
    failed: list[int] = []

    def fails_once(event, ctx):
        over_its_connection_in_a_thread(event, ctx)
        if not failed:
            failed.append(1)
            raise ValueError("once")

    async def fails_once_too(event, ctx):
        await over_nothing(event, ctx)
        if not failed:
            failed.append(1)
            raise ValueError("once")

    log.append("customer.joined")
    log.run_until_idle(letters(fails_once_too if handler is over_nothing else fails_once))
    assert failed
    assert sent(log) == [LETTER]


def test_a_place_that_is_not_there_is_told_where_it_is_emitted(log: LogUnderTest) -> None:
    told: list[str] = []

    async def misspelt(event, ctx):
        for private in ({"to.nmae": "customer-17"}, {"to": "customer-17", "to.name": "customer-17"}):
            with pytest.raises(BadInput) as refused:
                ctx.emit("letter.sent", LETTER, private=private)
            told.append(str(refused.value))

    log.append("customer.joined")
    log.run_until_idle(letters(misspelt))
    assert "to.nmae" in told[0]
    assert "apart" in told[1]
    assert sent(log) == []


def test_a_forgetting_that_is_under_way_is_waited_for_and_holds_up_nobody_else(
    log: LogUnderTest, database: str, start_workers: Callable[..., Any]
) -> None:
    append(log.connection, "note", {"x": 1}, private="customer-17")
    start_workers("""
        @app.agent("letters", on="customer.joined", start="beginning", max_attempts=1)
        async def letters(event, ctx):
            ctx.emit("letter.sent", {"to": "Ada"}, private={"to": "customer-17"})

        @app.agent("others", on="customer.joined", start="beginning")
        async def others(event, ctx):
            ctx.emit("other.sent")
    """)
    with psycopg.connect(database) as forgetting:
        forgetting.execute("select wakelog.forget('customer-17')")
        log.append("customer.joined")
        until(lambda: one(log.connection, "select count(*) from wakelog.in_flight where agent = 'letters'"))
        until(lambda: log.events("other.sent"))
        assert log.events("letter.sent") == []
        forgetting.rollback()
    until(lambda: sent(log) == [{"to": "Ada"}])


def test_functions_that_give_events_no_ids_get_nothing_private(log: LogUnderTest) -> None:
    """Of the build before, as in a rolling deployment: what is encrypted for another id opens nowhere."""
    log.connection.execute("drop function wakelog.keys_to_emit")
    log.append("customer.joined")
    log.run_until_idle(letters(over_nothing))
    assert sent(log) == []
    (dead,) = log.dead_letters("letters")
    assert "keys_to_emit" in (dead.error or "")


def of_what_it_read(private: Any, city: str = "London") -> Wakelog:
    def handler(event, ctx):
        ctx.emit("letter.sent", {"to": event.payload["name"], "city": city}, private=private)

    return letters(handler)


def test_a_rehearsal_compares_it_and_makes_no_key(log: LogUnderTest, database: str) -> None:
    private = {"to": "customer-17"}
    joined = log.append("customer.joined", {"name": "Ada"}, private={"name": "customer-17"})
    log.run_until_idle(of_what_it_read(private))

    def differences(app: Wakelog) -> list[tuple[Any, ...]]:
        (found,) = rehearse(database, app, [joined.correlation_id])
        return [(d.what, d.path, d.was, d.would_be) for d in found.differences]

    assert differences(of_what_it_read(private)) == []
    assert differences(of_what_it_read({"to": "somebody-new"}, "Paris")) == [
        ("payload", "city", "London", "Paris")
    ]
    assert differences(of_what_it_read(None)) == [("private", None, ["to"], [])]
    assert one(log.connection, KEYS) == 1
    forget(log)
    # What is forgotten is not compared, nor is it an error to say it: nothing is written.
    assert differences(of_what_it_read(private)) == []
    assert one(log.connection, KEYS) == 0


def test_a_workflow_shows_it_as_its_events_do(log: LogUnderTest) -> None:
    joined = log.append("customer.joined", {"name": "Ada"}, private={"name": "customer-17"})
    log.run_until_idle(of_what_it_read({"to": "customer-17"}))

    def payloads() -> list[Any]:
        return [event.payload for event in workflow_at(log.connection, joined.correlation_id or "").events]

    assert payloads() == [{"name": "Ada"}, {"to": "Ada", "city": "London"}]
    forget(log)
    assert payloads() == [{"name": FORGOTTEN}, {"to": FORGOTTEN, "city": "London"}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_workflow_shows_it_over_every_kind_of_connection(
    database: str, log: LogUnderTest, kind: str
) -> None:
    joined = log.append("customer.joined", {"name": "Ada"}, private={"name": "customer-17"})
    log.connection.execute("select wakelog.sequence()")

    async def payload(connection: Any) -> Any:
        (event,) = (await done(workflow_at(connection, joined.correlation_id or ""))).events
        return event.payload

    assert over(kind, database, payload) == {"name": "Ada"}
    forget(log)
    assert over(kind, database, payload) == {"name": FORGOTTEN}
