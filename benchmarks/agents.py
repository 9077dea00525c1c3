"""What the workers run in the benchmarks, besides the agents of wakelog.measuring."""

from wakelog import Context, Event, Wakelog

TYPES = 500
STEPS = 100


async def nothing(event: Event, ctx: Context) -> None:
    """Be done at once."""


async def one() -> int:
    return 1


async def hundred_steps(event: Event, ctx: Context) -> None:
    """Steps, each stored before the next begins."""
    for n in range(STEPS):
        await ctx.step(str(n), one)


idle = Wakelog("bench")
idle.agent("idle", on="bench.never")(nothing)

everything = Wakelog("bench")
everything.agent("everything", on="bench.#")(nothing)

one_type_each = Wakelog("bench")
for _n in range(TYPES):
    one_type_each.agent(f"agent{_n}", on=f"bench.type{_n}")(nothing)

steps = Wakelog("bench")
steps.agent("steps", on="bench.work")(hundred_steps)
