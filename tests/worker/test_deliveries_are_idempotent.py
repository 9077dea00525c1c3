"""The same event, however often and wherever it is delivered, has one effect and one result."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

RESULTS = "select count(*) from wakelog.events where type = 'agent.completed'"


def test_twenty_deliveries_in_parallel_have_one_effect(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """All twenty have written their effect, on four processes, before the first of them may end."""
    app = """
        @app.agent("agent", on="work", start="beginning", max_attempts=1, max_stalled=100)
        async def agent(event, ctx):
            await ctx.connection.execute("insert into effects values (%s, %s)", [str(event.id), ctx.attempt])
            ctx.emit("child", {"attempt": ctx.attempt})
            (folder / f"begun.{ctx.attempt}").write_text(str(os.getpid()))
            while not (folder / "go").exists():
                await asyncio.sleep(0.02)
            return {"attempt": ctx.attempt}
    """
    connection.execute("create table effects (event uuid, attempt int)")
    workers = start_workers(app, processes=4, slots=5)
    connection.execute("select wakelog.append('work')")
    for attempt in range(1, 21):
        until(lambda attempt=attempt: (tmp_path / f"begun.{attempt}").exists())
        if attempt < 20:  # its lease is over, as far as the database knows; all who sleep are told
            connection.execute("update wakelog.deliveries set available_at = wakelog.clock()")
            connection.execute("select wakelog.ring()")
    assert len({path.read_text() for path in tmp_path.glob("begun.*")}) == 4
    (tmp_path / "go").touch()
    until(lambda: one(connection, RESULTS))
    until(lambda: workers.said().count("no longer holds") == 19)
    assert connection.execute("select attempt from effects").fetchall() == [(20,)]
    assert connection.execute("select attempts, stalled from wakelog.history").fetchall() == [(20, 19)]

    workers.stop()
    start_workers(app)
    connection.execute("select wakelog.append('work')")
    until(lambda: one(connection, "select count(*) from wakelog.history") == 2)
    assert one(connection, "select max(n) from (select count(*) n from effects group by event) x") == 1
    assert one(connection, RESULTS) == 2
    assert one(connection, "select count(*) from wakelog.events where type = 'child'") == 2


def test_an_event_appended_twenty_times_under_one_key_is_one(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], database: str
) -> None:
    connection.execute("create table effects (event uuid)")
    app = """
        @app.agent("agent", on="work", start="beginning")
        def agent(event, ctx):
            ctx.connection.execute("insert into effects values (%s)", [str(event.id)])
            return {}
    """
    workers = start_workers(app, processes=4)
    together = threading.Barrier(20)
    ids: list[object] = []

    def deliver() -> None:
        with psycopg.connect(database, autocommit=True) as own:
            together.wait()
            ids.append(one(own, "select (wakelog.append('work', p_idempotency_key => 'delivery-1')).id"))

    def deliver_twenty_times() -> None:
        threads = [threading.Thread(target=deliver) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    deliver_twenty_times()
    until(lambda: one(connection, RESULTS))
    for pid in workers.pids().values():
        workers.kill(pid)
    deliver_twenty_times()
    connection.execute("select wakelog.append('work', p_idempotency_key => 'delivery-2')")
    until(lambda: one(connection, RESULTS) == 2)
    assert len(ids) == 40
    assert len(set(ids)) == 1
    assert one(connection, "select count(*) from effects") == 2
    assert one(connection, "select count(*) from wakelog.events where type = 'work'") == 2


def test_rewinding_under_running_workers_repeats_neither_steps_nor_results(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """The event is delivered anew; what was remembered of it, and told of it, is not done again."""
    start_workers(
        """
        def charge(number):
            (folder / "charges").open("a").write(f"{number}\\n")
            return number

        @app.agent("agent", on="work", start="beginning")
        async def agent(event, ctx):
            ctx.emit("child")
            return {"charge": await ctx.step("charge", charge, event.position)}
        """,
        processes=4,
    )
    connection.execute("select wakelog.append('work') from generate_series(1, 20)")
    until(lambda: one(connection, RESULTS) == 20)
    delivered = 20
    for _ in range(5):
        # While they are at it, too: what is in hand at that moment is not handed out a second time.
        connection.execute("select wakelog.rewind_agent('agent', 1, p_keep_steps => true)")
        connection.execute("select wakelog.rewind_agent('agent', 1, p_keep_steps => true)")
        until(lambda: one(connection, "select cursor >= 20 and in_flight + retrying = 0 from wakelog.lag"))
        again = one(connection, "select count(*) from wakelog.history")
        assert again > delivered
        delivered = again
    assert one(connection, RESULTS) == 20
    assert one(connection, "select count(*) from wakelog.events where type = 'child'") == 20
    assert len((tmp_path / "charges").read_text().splitlines()) == 20
