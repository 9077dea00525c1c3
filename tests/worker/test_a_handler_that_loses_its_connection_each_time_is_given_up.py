"""A lost connection is no failed attempt, but one that is lost each time is not tried for ever."""

from typing import Any

from psycopg import Connection
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

APP = """
    @app.agent("hopeless", on="job", start="beginning", max_stalled=2, ordered_by="source")
    async def hopeless(event, ctx):
        await ctx.connection.execute("select pg_terminate_backend(pg_backend_pid())")

    @app.agent("unlucky", on="job", start="beginning", max_attempts=1)
    async def unlucky(event, ctx):
        if ctx.attempt == 1:
            await ctx.connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return {"attempt": ctx.attempt}
"""


DEAD = """
select agent, reason, attempts, stalled, error, jsonb_array_length(failures) from wakelog.dead_letters order by agent
"""


def test_it_becomes_a_dead_letter_that_has_stalled(
    connection: Connection[Any], start_workers: StartWorkers
) -> None:
    start_workers(APP)
    connection.execute("insert into wakelog.events (type) values ('job'), ('job')")
    # The second stands in line behind the first, and has its turn.
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 2)
    for *counted, error, failures in connection.execute(DEAD).fetchall():
        assert counted == ["hopeless", "stalled", 3, 3]
        assert error.startswith("its connection was lost: ")
        assert failures == 3
    assert one(connection, "select count(*) from wakelog.events where type = 'hopeless.failed'") == 2

    # Once is nobody's failure.
    until(
        lambda: one(connection, "select count(*) from wakelog.events where type = 'unlucky.completed'") == 2
    )
    finished = "select attempts, stalled from wakelog.history where outcome = 'completed'"
    assert connection.execute(finished).fetchall() == [(2, 1), (2, 1)]
    assert one(connection, "select count(*) from wakelog.deliveries") == 0
