"""A log of the test's own for workflows, and one workflow that has everything in it.

order.placed -> "plan" emits three `part`s and a result -> "make" works on each part, in two steps; part 1 is given up
             -> "count" hears of every outcome and says nothing
"""

from collections.abc import Iterator

import pytest

from wakelog import Event, Fixed, Wakelog
from wakelog.testing import LogUnderTest

app = Wakelog("factory")


@app.agent("plan", on="order.placed")
async def plan(event, ctx):
    for n in range(event.payload["parts"]):
        ctx.emit("part", {"n": n, "size": event.payload["size"]})
    return {"parts": event.payload["parts"]}


@app.agent("make", on="part", max_attempts=2, backoff=Fixed(0))
async def make(event, ctx):
    await ctx.step("cut", lambda: event.payload["n"])
    if event.payload["n"] == 1:
        raise ValueError("broken")
    await ctx.step("paint", lambda: "red")
    return {"n": event.payload["n"], "size": event.payload["size"]}


@app.agent("count", on=["make.completed", "make.failed"])
async def count(event, ctx):
    pass


@pytest.fixture
def log(database: str) -> Iterator[LogUnderTest]:
    with LogUnderTest(database) as log:
        yield log


@pytest.fixture
def factory() -> Wakelog:
    return app


@pytest.fixture
def order(log: LogUnderTest, factory: Wakelog) -> Event:
    """An order of three parts, run to its end."""
    event = log.append("order.placed", {"parts": 3, "size": 7})
    log.run_until_idle(factory)
    return event
