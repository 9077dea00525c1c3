"""Effect, acknowledgement and result are one commit: whenever the end comes, both are there, and once."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

from wakelog.testing import ThrowawayPostgres

# Waits, with its effect written, for the test to do its worst; the first time only.
APP = """
    def mark():
        tries = len(list(folder.glob("try.*"))) + 1
        (folder / f"try.{tries}").write_text(str(os.getpid()))
        return tries == 1

    @app.agent("agent", on="work", start="beginning", max_attempts=1)
    async def agent(event, ctx):
        await ctx.connection.execute("insert into effects values (%s)", [ctx.attempt])
        ctx.emit("child")
        if mark():
            while not WAITS:
                await asyncio.sleep(0.02)
        return {"attempt": ctx.attempt}
"""
SYNC_APP = """
    def mark():
        tries = len(list(folder.glob("try.*"))) + 1
        (folder / f"try.{tries}").write_text(str(os.getpid()))
        return tries == 1

    @app.agent("agent", on="work", start="beginning", max_attempts=1)
    def agent(event, ctx):
        ctx.connection.execute("insert into effects values (%s)", [ctx.attempt])
        ctx.emit("child")
        if mark():
            while not WAITS:
                time.sleep(0.02)
        return {"attempt": ctx.attempt}
"""

NOT_YET = '(folder / "go").exists()'

APPS = pytest.mark.parametrize("app", [APP, SYNC_APP], ids=["async", "sync"])


def test_killed_before_the_handler_returns(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    connection.execute("create table effects (attempt int)")
    workers = start_workers(APP.replace("WAITS", "False"))
    connection.execute("select wakelog.append('work')")
    workers.kill(first_try(tmp_path))
    assert outcome(connection) == {"effects": [2], "result": [2], "child": 1}
    assert stalled(connection) == 1


@APPS
def test_its_connection_is_lost_before_the_commit(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path, app: str
) -> None:
    connection.execute("create table effects (attempt int)")
    start_workers(app.replace("WAITS", NOT_YET))
    connection.execute("select wakelog.append('work')")
    first_try(tmp_path)
    terminate(connection, "application_name = 'wakelog handler' and state = 'idle in transaction'")
    (tmp_path / "go").touch()
    assert outcome(connection) == {"effects": [2], "result": [2], "child": 1}, "nobody's failure"
    assert stalled(connection) == 1


@APPS
def test_its_connection_is_lost_in_the_commit(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], app: str
) -> None:
    """A deferred trigger runs inside the commit. The first one ends the server's process there."""
    connection.execute("create table effects (attempt int); create sequence commits")
    connection.execute(
        """
        create function fall_over() returns trigger language plpgsql as $$
        begin
            if nextval('commits') = 1 then
                perform pg_terminate_backend(pg_backend_pid());
            end if;
            return null;
        end $$;
        create constraint trigger fall_over after insert on effects deferrable initially deferred
        for each row execute function fall_over()
        """
    )
    start_workers(app.replace("WAITS", "True"))
    connection.execute("select wakelog.append('work')")
    assert outcome(connection) == {"effects": [2], "result": [2], "child": 1}
    assert stalled(connection) == 1
    assert one(connection, "select last_value from commits") == 2


@APPS
def test_the_answer_to_the_commit_is_lost(
    crashable_server: ThrowawayPostgres, start_workers: Callable[..., WorkerProcesses], app: str
) -> None:
    """Committed, but the worker is never told: waiting for a standby that is not there, the connection ends."""
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table effects (attempt int)")
        connection.execute("alter database test set synchronous_commit = local")
        connection.execute("alter system set synchronous_standby_names = 'nobody'")
        connection.execute("select pg_reload_conf()")
        awaited = '"set local synchronous_commit = on"'
        app = app.replace('"insert', f'{awaited}); INSERT("insert').replace("WAITS", "True")
        app = app.replace(
            "INSERT", "await ctx.connection.execute" if "await" in app else "ctx.connection.execute"
        )
    with psycopg.connect(url, autocommit=True) as connection:
        until(lambda: one(connection, "show synchronous_standby_names") == "nobody")
        workers = start_workers(app, url=url)
        connection.execute("select wakelog.append('work')")
        # Here, for a worker that looks by itself sequences durably, and would wait for the standby with that.
        connection.execute("select wakelog.sequence()")
        terminate(connection, "application_name = 'wakelog handler' and wait_event = 'SyncRep'")
        assert outcome(connection) == {"effects": [1], "result": [1], "child": 1}
        until(lambda: "its connection was lost" in workers.said())
        assert one(connection, "select count(*) from wakelog.deliveries") == 0
        assert outcome(connection) == {"effects": [1], "result": [1], "child": 1}


def test_the_server_crashes_before_the_commit(
    crashable_server: ThrowawayPostgres, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    url = crashable_server.url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table effects (attempt int)")
        start_workers(APP.replace("WAITS", "False"), url=url)
        connection.execute("select wakelog.append('work')")
        first_try(tmp_path)
    crashable_server.crash()
    crashable_server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        found = outcome(connection)
        # Attempt 1 where the claim itself was lost with the crash, or the worker could still give back.
        assert found in [{"effects": [n], "result": [n], "child": 1} for n in (1, 2)]


def first_try(folder: Path) -> int:
    """Wait for the first attempt to have written its effect; the process it runs in."""
    return int(until(lambda: (folder / "try.1").exists() and (folder / "try.1").read_text()))


def terminate(connection: psycopg.Connection, which: str) -> None:
    """End the one server process that is in this state, as soon as there is one."""
    query = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname = current_database() and pid <> pg_backend_pid() and {which}"
    )
    assert until(lambda: connection.execute(query).fetchall()) == [(True,)]  # type: ignore[arg-type]


def outcome(connection: psycopg.Connection) -> dict[str, object]:
    """What is there in the end."""
    until(lambda: one(connection, "select count(*) from wakelog.history"))
    return {
        "effects": [n for (n,) in connection.execute("select attempt from effects").fetchall()],
        "result": [
            payload["attempt"]
            for (payload,) in connection.execute(
                "select payload from wakelog.events where type = 'agent.completed'"
            ).fetchall()
        ],
        "child": one(connection, "select count(*) from wakelog.events where type = 'child'"),
    }


def stalled(connection: psycopg.Connection) -> int:
    return one(connection, "select stalled from wakelog.history")
