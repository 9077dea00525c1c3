"""The applications that measured workers run: agents that do next to nothing, so that what is left is the cost."""

import time
from typing import Any

from wakelog.agents.app import Wakelog
from wakelog.agents.batch import BatchContext
from wakelog.agents.context import Context
from wakelog.log.event import Event

EFFECT = "insert into effects values (%s)"
"""What a handler writes where effects are measured, into a table of one bigint."""


async def nothing(event: Event, ctx: Context) -> None:
    """Be done at once."""


async def nothing_at_all(events: list[Event], ctx: BatchContext) -> None:
    """Be done with all of them at once."""


async def write(event: Event, ctx: Context) -> None:
    """One row, in the transaction that finishes the event."""
    await ctx.connection.execute(EFFECT, [event.position])


async def reply(event: Event, ctx: Context) -> dict[str, Any]:
    """Say how many seconds ago, by this machine's clock, the event was about to be inserted."""
    return {"seconds": time.time() - event.payload["at"]}


no_op = Wakelog("bench")
no_op.agent("no-op", on="bench.work")(nothing)

batch = Wakelog("bench")
batch.agent("batch", on="bench.work", batch=500)(nothing_at_all)

effects = Wakelog("bench")
effects.agent("effects", on="bench.work")(write)

ping = Wakelog("bench")
ping.agent("ping", on="bench.ping")(reply)

all_of_them = Wakelog("bench")
all_of_them.agent("no-op", on="bench.no-op")(nothing)
all_of_them.agent("batch", on="bench.batch", batch=500)(nothing_at_all)
all_of_them.agent("effects", on="bench.effects")(write)
all_of_them.agent("ping", on="bench.ping")(reply)
