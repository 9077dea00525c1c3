"""A worker takes its deliveries for its own no longer than they are, whatever comes between two heartbeats."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from tests.worker.asking import append, register, sequence
from tests.worker.waiting import one, until

from wakelog import Wakelog
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.session import Session
from wakelog.worker.watchdog import Watchdog

LEASE = 3.0
WAITS = """
select exists (select from pg_stat_activity where application_name = 'wakelog watchdog' and wait_event_type = 'Lock'
               and datname = current_database())
"""


@contextmanager
def held_up(url: str, worker: int) -> Iterator[None]:
    """The heartbeat of that worker waits."""
    with psycopg.connect(url) as somebody:
        somebody.execute("select from wakelog.worker_sessions where id = %s for update", [worker])
        yield


def promised(connection: psycopg.Connection[Any], delivery: Delivery) -> float:
    """When its lease ends, or a moment later, on this process's monotonic clock."""
    ends = "select available_at - clock_timestamp() from wakelog.deliveries where position = %s"
    left = one(connection, ends, delivery.position)
    return time.monotonic() + left.total_seconds()


def test_what_comes_while_a_heartbeat_is_under_way_is_not_taken_for_prolonged(
    connection: psycopg.Connection[Any], database: str
) -> None:
    app = Wakelog("app")
    app.agent("agent", on="work", start="beginning")(lambda event, ctx: None)
    register(connection, "agent", "work")
    append(connection, "work", "work")
    sequence(connection)

    async def claim(session: Session) -> list[Delivery]:
        return await session.read(await session.ask(app.agents["agent"], 1))

    async def main() -> None:
        session = await Session.start(database, app.agents.values(), lease=LEASE, listening=True)
        held = Held()
        watchdog = Watchdog(database, session.worker, held, lease=LEASE, die=lambda why: None)
        ask = asyncio.to_thread
        try:
            (first,), (second,) = await claim(session), await claim(session)
            held.add([first], first.claimed_at + LEASE)
            with held_up(database, session.worker):
                watchdog.start()
                await ask(until, lambda: one(connection, WAITS))
                held.add([second], second.claimed_at + LEASE)
                before = held.until(first)
            await ask(until, lambda: held.until(first) > before)
            watchdog.stop()
            await ask(threading.Thread.join, watchdog)
            for delivery in (first, second):
                assert held.until(delivery) <= promised(connection, delivery)
            assert held.until(second) == second.claimed_at + LEASE
        finally:
            watchdog.stop()
            await session.close()

    asyncio.run(main())


def test_what_had_run_out_is_not_taken_for_prolonged() -> None:
    app = Wakelog("app")
    app.agent("agent", on="work")(lambda event, ctx: None)
    gone, there, never = (
        Delivery(app.agents["agent"], None, n, 1, 0, 0.0)  # type: ignore[arg-type]  # no event is looked at
        for n in range(3)
    )
    held, now = Held(), time.monotonic()
    held.add([gone], now - 1)
    held.add([there], now + 60)
    held.prolonged([gone, there, never], now + 90)
    assert held.until(gone) == now - 1
    assert held.until(there) == now + 90
    assert held.until(never) < now
    assert len(held) == 2
