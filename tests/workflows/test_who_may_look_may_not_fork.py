"""wakelog_reader sees workflows in every way; wakelog_worker forks and rehearses; wakelog_writer does neither."""

import psycopg
import pytest
from tests.worker.asking import append, register, sequence

from wakelog.testing import LogUnderTest
from wakelog.workflows import fork, rehearse, workflow_at, workflows

LOOKS = [
    "select * from wakelog.workflows()",
    "select * from wakelog.workflows(p_state => 'waiting')",
    "select * from wakelog.workflow_at('w')",
    "select * from wakelog.workflow_at('w', 1)",
    "select * from wakelog.workflow_events('w')",
    "select * from wakelog.recorded_work('w')",
    "select * from wakelog.events_as_of(now())",
    "select * from wakelog.lineage",
]


def test_each_role_does_its_part(log: LogUnderTest) -> None:
    connection = log.connection
    register(connection, "work", "job")
    append(connection, "job", correlation_id="w")
    sequence(connection)
    connection.execute("set role wakelog_reader")
    for look in LOOKS:
        connection.execute(look.encode())
    assert workflow_at(connection, "w").events[0].work[0].state == "waiting"
    for refused in ("select wakelog.fork_workflow('w', p_position => 1)", "select wakelog.begin_rehearsal()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(refused.encode())
    connection.execute("set role wakelog_writer")
    for refused in [*LOOKS, "select wakelog.fork_workflow('w', p_position => 1)"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(refused.encode())
    connection.execute("set role wakelog_worker")
    made = fork(connection, "w", position=1)
    sequence(connection)
    assert [one.correlation_id for one in workflows(connection)] == [made, "w"]


def test_whom_a_rehearsal_is_refused_is_told(log: LogUnderTest) -> None:
    from wakelog import Wakelog

    app = Wakelog("app")

    @app.agent("work", on="job")
    async def work(event, ctx):
        if event.metadata.get("touch"):
            await ctx.connection.execute("select 1")

    log.append("job", correlation_id="w", metadata={"touch": True})
    log.run_until_idle(app)
    log.connection.execute("create role looks_on login in role wakelog_reader")
    try:
        url = log.url.replace("postgres@", "looks_on@")
        ((found,),) = [one.differences for one in rehearse(url, app, ["w"])]
        assert "permission denied for function begin_rehearsal" in found.would_be
    finally:
        log.connection.execute("drop role looks_on")
