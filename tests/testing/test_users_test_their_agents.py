"""wakelog.testing, used as the tests of a program use it."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.worker.waiting import one, until

from wakelog import BadInput, BatchContext, Context, DoNotRetry, Event, Fixed, GiveBack, Wakelog
from wakelog.testing import DeadLetter, LogUnderTest, NotIdle, ThrowawayPostgres

TESTS_OF_A_USER = """
import asyncio

from wakelog import Wakelog

app = Wakelog("shop")

@app.agent("welcome", on="customer.joined")
async def welcome(event, ctx):
    return {"text": f"Hello, {event.payload['name']}!"}

def test_one(wakelog_log):
    wakelog_log.append("customer.joined", {"name": "Ada"})
    wakelog_log.run_until_idle(app)
    assert [e.payload for e in wakelog_log.emitted("welcome")] == [{"text": "Hello, Ada!"}]

def test_another_has_a_log_of_its_own(wakelog_log, wakelog_database):
    assert wakelog_log.events() == []
    assert wakelog_log.url == wakelog_database
"""


def test_an_answer_is_seen(wakelog_log: LogUnderTest) -> None:
    app = Wakelog("shop")

    @app.agent("welcome", on="customer.joined")
    async def welcome(event: Event, ctx: Context) -> dict[str, str]:
        await ctx.connection.execute("insert into greeted values (%s)", [event.payload["name"]])
        ctx.emit("mail.wanted", {"to": event.payload["name"]})
        return {"text": f"Hello, {event.payload['name']}!"}

    @app.agent("mailer", on="mail.wanted")
    def mailer(event: Event, ctx: Context) -> str:
        return "sent"

    wakelog_log.connection.execute("create table greeted (name text)")
    cause = wakelog_log.append("customer.joined", {"name": "Ada"}, source="web")
    wakelog_log.run_until_idle(app)

    assert wakelog_log.connection.execute("select name from greeted").fetchall() == [("Ada",)]
    types = [event.type for event in wakelog_log.events()]
    assert types == ["customer.joined", "mail.wanted", "welcome.completed", "mailer.completed"]
    assert [event.type for event in wakelog_log.events("*.completed")] == types[2:]
    assert [event.type for event in wakelog_log.emitted()] == types[1:]
    wanted, welcomed = wakelog_log.emitted("welcome")
    assert (wanted.causation_id, wanted.correlation_id) == (cause.id, cause.correlation_id)
    assert welcomed.payload == {"text": "Hello, Ada!"}
    # A second run finds nothing to do, and a third what came since.
    wakelog_log.run_until_idle(app)
    assert len(wakelog_log.events()) == 4
    wakelog_log.append("customer.joined", {"name": "Grace"})
    wakelog_log.run_until_idle(app)
    assert len(wakelog_log.emitted("mailer")) == 2


def test_a_batch_is_handed_over(wakelog_log: LogUnderTest) -> None:
    app = Wakelog("warehouse")
    sizes: list[int] = []

    @app.agent("loader", on="row", batch=10)
    async def loader(events: list[Event], ctx: BatchContext) -> list[int]:
        sizes.append(len(events))
        for event in events:
            if event.payload["n"] == 7:
                ctx.fail(event, DoNotRetry("seven"))
        return [event.payload["n"] for event in events]

    for n in range(15):
        wakelog_log.append("row", {"n": n})
    wakelog_log.run_until_idle(app)
    assert sizes == [10, 5]
    assert [event.payload for event in wakelog_log.emitted("loader") if event.type == "loader.completed"] == [
        n for n in range(15) if n != 7
    ]
    assert [letter.error for letter in wakelog_log.dead_letters()] == ["seven"]


def test_many_events_through_two_agents_in_order(wakelog_log: LogUnderTest) -> None:
    app, seen = Wakelog("chain"), list[int]()

    @app.agent("first", on="number", ordered_by="payload.parity", concurrency=3)
    async def first(event: Event, ctx: Context) -> Any:
        return event.payload

    @app.agent("second", on="first.completed", concurrency=2)
    def second(event: Event, ctx: Context) -> None:
        seen.append(event.payload["n"])

    for n in range(100):
        wakelog_log.append("number", {"n": n, "parity": n % 2})
    wakelog_log.run_until_idle(app)
    assert sorted(seen) == list(range(100))
    odd = [event.payload["n"] for event in wakelog_log.emitted("first") if event.payload["parity"]]
    assert odd == list(range(1, 100, 2))


def test_a_failure_is_tried_again_when_the_clock_is_turned(wakelog_log: LogUnderTest) -> None:
    app, attempts, paid = Wakelog("shop"), list[int](), list[str]()

    def pay() -> str:
        paid.append("once")
        return "receipt 7"

    @app.agent("pay", on="order.placed", backoff=Fixed("1h"))
    def pay_order(event: Event, ctx: Context) -> Any:
        attempts.append(ctx.attempt)
        receipt = ctx.step("pay", pay)
        if ctx.attempt < 3:
            raise ConnectionError("the bank is closed")
        return receipt

    wakelog_log.append("order.placed")
    wakelog_log.run_until_idle(app)
    assert (attempts, wakelog_log.emitted()) == ([1], [])
    wakelog_log.run_until_idle(app)
    wakelog_log.turn_clock("30m")
    wakelog_log.run_until_idle(app)
    assert attempts == [1]
    wakelog_log.turn_clock("31m")
    wakelog_log.run_until_idle(app)
    assert attempts == [1, 2]
    wakelog_log.turn_clock(3600)
    wakelog_log.run_until_idle(app)
    assert attempts == [1, 2, 3]
    assert [event.payload for event in wakelog_log.emitted("pay")] == ["receipt 7"]
    assert paid == ["once"]


def test_what_is_given_up_is_a_dead_letter(wakelog_log: LogUnderTest) -> None:
    app = Wakelog("shop")

    @app.agent("strict", on="order.placed")
    async def strict(event: Event, ctx: Context) -> None:
        raise DoNotRetry("no such customer")

    @app.agent("stubborn", on="order.placed", max_attempts=3, backoff=Fixed(0))
    async def stubborn(event: Event, ctx: Context) -> None:
        raise ValueError("still no such customer")

    wakelog_log.append("order.placed", {"customer": 8})
    wakelog_log.run_until_idle(app)
    (letter,) = wakelog_log.dead_letters("strict")
    assert letter == DeadLetter(
        agent="strict", position=1, type="order.placed", payload={"customer": 8}, reason="do_not_retry",
        error="no such customer", attempts=1,
    )  # fmt: skip
    assert len(wakelog_log.dead_letters()) == 2
    assert wakelog_log.dead_letters("stubborn")[0].attempts == 3
    assert [event.type for event in wakelog_log.emitted("strict")] == ["strict.failed"]


def test_a_time_limit_is_kept(wakelog_log: LogUnderTest) -> None:
    app = Wakelog("slow")

    @app.agent("sleeper", on="push", timeout="100ms", max_attempts=1)
    async def sleeper(event: Event, ctx: Context) -> None:
        await asyncio.sleep(60)

    wakelog_log.append("push")
    wakelog_log.run_until_idle(app)
    assert wakelog_log.dead_letters()[0].error == "the time limit of 0.1 s passed"


def test_a_lease_left_by_another_worker_is_over_when_the_clock_is_turned(wakelog_log: LogUnderTest) -> None:
    app, seen = Wakelog("app"), list[int]()

    @app.agent("work", on="push")
    def work(event: Event, ctx: Context) -> None:
        seen.append(ctx.attempt)

    wakelog_log.run_until_idle(app)
    wakelog_log.append("push")
    wakelog_log.events()
    ask = wakelog_log.connection.execute
    ask("select wakelog.claim('work', wakelog.start_worker('another', '{work}', false), 1, '10 minutes')")
    wakelog_log.run_until_idle(app)
    assert seen == []
    wakelog_log.turn_clock("11m")
    wakelog_log.run_until_idle(app)
    assert seen == [2]


def test_what_a_rate_holds_back_is_there_when_the_clock_is_turned(wakelog_log: LogUnderTest) -> None:
    app, seen = Wakelog("shop"), list[int | None]()

    @app.agent("paced", on="order.placed", rate="2/m")
    async def paced(event: Event, ctx: Context) -> None:
        seen.append(event.position)

    for _ in range(3):
        wakelog_log.append("order.placed")
    wakelog_log.run_until_idle(app)
    assert seen == [1, 2]
    wakelog_log.turn_clock("2m")
    wakelog_log.run_until_idle(app)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("kind", ["sleeps", "spins in the loop", "spins in a thread", "gives back"])
def test_work_that_does_not_end_fails_the_test_and_says_what(wakelog_log: LogUnderTest, kind: str) -> None:
    app, began, ended = Wakelog("shop"), threading.Event(), threading.Event()

    def spin() -> None:
        began.set()
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.set()

    async def restless(event: Event, ctx: Context) -> None:
        began.set()
        if kind == "gives back":
            ended.set()
            await asyncio.sleep(0.05)
            raise GiveBack()
        if kind == "spins in the loop":
            spin()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def restless_thread(event: Event, ctx: Context) -> None:
        spin()

    @app.agent("fussy", on="order.placed", backoff=Fixed("1h"))
    async def fussy(event: Event, ctx: Context) -> None:
        raise ValueError("not today")

    wakelog_log.append("order.placed")
    wakelog_log.run_until_idle(app)
    app.agent("restless", on="order.placed")(restless_thread if kind == "spins in a thread" else restless)
    while True:
        started = time.monotonic()
        with pytest.raises(NotIdle) as failure:
            wakelog_log.run_until_idle(app, timeout=0.5)
        assert time.monotonic() - started < 5
        if began.is_set():  # and not too late on a machine that stood still
            break
    assert 'expected the agents of "shop" to be idle within 0.5 s, found:' in str(failure.value)
    assert any(line.startswith("restless at 1 (order.placed), attempt") for line in failure.value.left)
    assert any(line.endswith("last error: ValueError: not today") for line in failure.value.left)
    assert ended.wait(5)
    assert not wakelog_log.connection.execute("select from wakelog.workers where alive").fetchall()


def test_a_handler_that_had_to_be_ended_is_not_done_when_its_failure_is_recorded_before_anybody_looks(
    wakelog_log: LogUnderTest,
) -> None:
    """The look for idleness is held up until the failure is written, and nothing is left for the agents to do."""
    app, began, looks_on = Wakelog("shop"), threading.Event(), threading.Event()

    @app.agent("restless", on="order.placed", backoff=Fixed("1h"))
    async def restless(event: Event, ctx: Context) -> None:
        began.set()
        await asyncio.to_thread(looks_on.wait, 10)
        while True:
            pass

    def hold_up(somebody: psycopg.Connection, look: psycopg.Connection) -> None:
        assert began.wait(10)
        somebody.execute("lock table wakelog.sequencer in access exclusive mode")
        until(lambda: one(look, "select exists (select from pg_stat_activity where query like 'call wakelog.look%%'"
                                " and wait_event_type = 'Lock' and datname = current_database())"))  # fmt: skip
        looks_on.set()
        until(lambda: one(look, "select exists (select from wakelog.deliveries where failures is not null)"))
        somebody.rollback()

    wakelog_log.append("order.placed")
    with (
        psycopg.connect(wakelog_log.url) as somebody,
        psycopg.connect(wakelog_log.url, autocommit=True) as look,
    ):
        holding = threading.Thread(target=hold_up, args=(somebody, look))
        holding.start()
        with pytest.raises(NotIdle) as failure:
            wakelog_log.run_until_idle(app, timeout=3.0)
        holding.join()
    assert looks_on.is_set(), "the test did not do what it was made for"
    assert failure.value.left[0].startswith("restless at 1 (order.placed), attempt 1: kept everybody waiting")
    assert failure.value.left[0].endswith("and was ended")


def test_the_message_comes_with_what_the_handlers_logged(
    wakelog_log: LogUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    app = Wakelog("app")

    @app.agent("work", on="push", max_attempts=1)
    def work(event: Event, ctx: Context) -> None:
        ctx.log.error("on my way")
        assert event.payload == {"is": 42}

    wakelog_log.append("push")
    with caplog.at_level(logging.WARNING):
        wakelog_log.run_until_idle(app)
    assert "on my way" in caplog.text
    assert "AssertionError" in caplog.text


def test_async_tests_await(wakelog_log: LogUnderTest) -> None:
    app, loops = Wakelog("app"), list[asyncio.AbstractEventLoop]()

    @app.agent("work", on="push")
    async def work(event: Event, ctx: Context) -> None:
        loops.append(asyncio.get_running_loop())

    async def an_async_test() -> None:
        wakelog_log.append("push")
        with pytest.raises(BadInput, match=r"await log\.run_until_idle_async"):
            wakelog_log.run_until_idle(app)
        await wakelog_log.run_until_idle_async(app)
        assert loops == [asyncio.get_running_loop()]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(an_async_test())


def test_the_app_is_left_as_it_was(wakelog_log: LogUnderTest) -> None:
    app = Wakelog("app")
    app.agent("work", on="push")(lambda event, ctx: None)
    before = dict(app.agents)
    wakelog_log.run_until_idle(app)
    assert app.agents == before


@pytest.mark.parametrize("given", [False, True], ids=["throwaway", "given"])
def test_pytest_finds_the_fixtures_in_an_empty_folder(
    server: ThrowawayPostgres, tmp_path: Path, given: bool
) -> None:
    (tmp_path / "test_shop.py").write_text(TESTS_OF_A_USER)
    # As the entry point would, whether this checkout is installed with it or not.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    environment.pop("WAKELOG_TEST_DATABASE", None)
    if given:
        environment["WAKELOG_TEST_DATABASE"] = server.url()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "wakelog.testing.plugin", "-W", "error"],
        cwd=tmp_path, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    with psycopg.connect(server.url()) as connection:
        mine = f"wakelog_test_{os.getpid()}%"
        query = "select datname from pg_database where datname like 'wakelog_test_%%' and datname not like %s"
        assert connection.execute(query, [mine]).fetchall() == []


def test_the_plugin_alone_starts_and_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain():\n"
        "    wanted = ('testing.postgresql', 'wakelog.worker.process', 'wakelog.testing.log', 'alembic')\n"
        "    assert not set(wanted) & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "wakelog.testing.plugin"],
        cwd=tmp_path, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        text=True, capture_output=True,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
