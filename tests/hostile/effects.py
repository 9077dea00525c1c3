"""An agent whose effect is a row, and the check that each event had its effect once."""

from typing import Any

from psycopg import Connection
from tests.worker.waiting import one, until

# Not even a constraint keeps a second effect out.
TABLE = "create table effects (n bigint)"

APP = """
    @app.agent("job", on="job.wanted", start="beginning", max_attempts=1, max_stalled=1000)
    async def job(event, ctx):
        await ctx.connection.execute("insert into effects values (%s)", [event.payload["n"]])
        return {"n": event.payload["n"]}
"""

COMPLETED = "select count(*) from wakelog.history where outcome = 'completed'"


def every_effect_once(connection: Connection[Any], wanted: list[int], *, within: float = 30) -> None:
    """Wait until all the jobs are done, and see that each was done once and answered once."""
    until(lambda: one(connection, COMPLETED) >= len(wanted), within=within)
    effects = connection.execute("select n from effects order by n").fetchall()
    assert [n for (n,) in effects] == sorted(wanted)
    answers = connection.execute(
        "select (payload ->> 'n')::bigint as n from wakelog.events where type = 'job.completed' order by 1"
    ).fetchall()
    assert [n for (n,) in answers] == sorted(wanted)
    assert one(connection, "select count(*) from wakelog.deliveries") == 0
    assert one(connection, "select count(*) from wakelog.dead") == 0
