"""A worker that was away for longer than a lease may claim again what it still works on, and end both at one moment."""

import asyncio
import logging
import time
from typing import Any

import pytest
from psycopg import Connection
from tests.worker.asking import append, claim, register, sequence, start_worker
from tests.worker.waiting import one

from wakelog import Wakelog, read
from wakelog.worker.delivery import Delivery, Held
from wakelog.worker.settling import Settling


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_only_the_last_of_two_attempts_that_end_together_is_written(
    connection: Connection[Any], database: str, caplog: pytest.LogCaptureFixture, order: tuple[int, int]
) -> None:
    app = Wakelog("test")
    app.agent("agent", on="work")(lambda event, ctx: None)
    agent = app.agents["agent"]
    append(connection, "work", "work")
    sequence(connection)
    register(connection, "agent", "work")
    worker = start_worker(connection, "agent")
    assert [attempt for _, attempt, _ in claim(connection, "agent", worker)] == [1, 1]
    connection.execute("update wakelog.deliveries set available_at = wakelog.clock() where position = 1")
    assert claim(connection, "agent", worker) == [(1, 2, "work")]
    first, second = read(connection, types="work")
    attempts = {n: Delivery(agent, first, 1, n, n - 1, time.monotonic()) for n in order}
    other = Delivery(agent, second, 2, 1, 0, time.monotonic())

    async def end() -> None:
        held = Held()
        held.add([*attempts.values(), other], time.monotonic() + 30)
        settling = Settling(database, worker, held, pooled=False)
        writes = asyncio.create_task(settling.run())
        settling.done(
            [
                *((attempts[n], [answer(1, "child", n), answer(1, f"only {n}", n)]) for n in order),
                (other, [answer(2, "child", 1)]),
            ]
        )
        await settling.flush()
        writes.cancel()
        await settling.close()

    with caplog.at_level(logging.WARNING, "wakelog.worker"):
        asyncio.run(end())
    answers = connection.execute(
        "select payload ->> 'by', idempotency_key like '%child' from wakelog.events where type = 'answer' order by seq"
    ).fetchall()
    assert answers == [("2", True), ("2", False), ("1", True)]
    assert caplog.text.count("agent at 1: the lease was lost") == 1
    assert one(connection, "select count(*) from wakelog.deliveries") == 0


def answer(position: int, key: str, by: int) -> dict[str, Any]:
    return {"position": position, "key": key, "type": "answer", "payload": {"by": by}}
