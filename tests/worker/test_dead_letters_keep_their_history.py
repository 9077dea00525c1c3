"""An event that is given up waits with the record of its attempts, is told once, and can be tried again or let go."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from tests.worker.processes import WorkerProcesses
from tests.worker.sql_worker import Token, append, claim, register, start_worker
from tests.worker.waiting import one, until

FAILED_EVENTS = "select count(*) from wakelog.events where type = 'agent.failed'"


def test_after_the_last_attempt_it_is_dead_and_told_once(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    connection.execute("create table effects (attempt int)")
    start_workers(
        """
        @app.agent("agent", on="work", start="beginning", max_attempts=3, backoff=Fixed(0))
        def agent(event, ctx):
            ctx.connection.execute("insert into effects values (%s)", [ctx.attempt])
            ctx.emit("child")
            raise ValueError(f"attempt {ctx.attempt} is no good")
        """,
        processes=2,
    )
    connection.execute(
        "select wakelog.append('work', jsonb_build_object('n', 1), p_correlation_id => 'run-7')"
    )
    until(lambda: one(connection, "select count(*) from wakelog.dead"))

    letter = connection.execute(
        "select agent, type, correlation_id, reason, error, attempts, stalled, payload from wakelog.dead_letters"
    ).fetchone()
    assert letter == (
        "agent", "work", "run-7", "max_attempts", "ValueError: attempt 3 is no good", 3, 0, {"n": 1},
    )  # fmt: skip
    attempts = connection.execute(
        "select (f ->> 'attempt')::int, f ->> 'reason', f ->> 'error',"
        "       f ->> 'detail' like 'Traceback%line%ValueError%',"
        "       (f ->> 'started_at')::timestamptz <= (f ->> 'failed_at')::timestamptz, f ? 'worker'"
        "  from wakelog.dead_letters, jsonb_array_elements(failures) f"
    ).fetchall()
    assert attempts == [
        (n, "failed", f"ValueError: attempt {n} is no good", True, True, True) for n in (1, 2, 3)
    ]
    told = connection.execute(
        "select correlation_id, payload, causation_id = (select event_id from wakelog.dead_letters)"
        "  from wakelog.events where type = 'agent.failed'"
    ).fetchall()
    assert told == [
        (
            "run-7",
            {
                "reason": "max_attempts",
                "error": "ValueError: attempt 3 is no good",
                "attempts": 3,
                "position": 1,
            },
            True,
        )
    ]
    assert one(connection, "select count(*) from effects") == 0, "effects of failed attempts are rolled back"
    assert one(connection, "select count(*) from wakelog.events where type = 'child'") == 0
    assert one(connection, "select dead from wakelog.lag where agent = 'agent'") == 1


def test_only_failures_count(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """Giving back does not count; nor does being told to stop. A connection or a worker that was lost counts apart."""
    app = """
        @app.agent("agent", on="work", start="beginning", max_attempts=3, backoff=Fixed(0))
        async def agent(event, ctx):
            tries = len(list(folder.glob("try.*"))) + 1
            (folder / f"try.{tries}").write_text(f"{ctx.attempt} {os.getpid()}")
            if tries in (1, 2):
                raise GiveBack()
            if tries == 3:
                raise GiveBack("200ms")
            if tries == 4:
                raise ValueError("this one counts")
            if tries == 5:
                await ctx.connection.execute("select pg_terminate_backend(pg_backend_pid())")
            await asyncio.sleep(600 if tries < 8 else 0)
            raise ValueError("so does this")
    """

    def begun(tries: int) -> int:
        until(lambda: (tmp_path / f"try.{tries}").exists() and (tmp_path / f"try.{tries}").read_text())
        return int((tmp_path / f"try.{tries}").read_text().split()[1])

    first = start_workers(app, grace=0.1)
    connection.execute("select wakelog.append('work')")
    begun(6)
    assert first.stop() == 0
    assert connection.execute("select attempt, stalled, worker from wakelog.deliveries").fetchone() == (
        2,
        1,
        None,
    )
    second = start_workers(app, grace=0.1)
    second.kill(begun(7))
    until(lambda: one(connection, "select count(*) from wakelog.dead"))

    counted = [int((tmp_path / f"try.{tries}").read_text().split()[0]) for tries in range(1, 10)]
    assert counted == [1, 1, 1, 1, 2, 3, 3, 4, 5]
    letter = connection.execute(
        "select attempts, stalled, jsonb_path_query_array(failures, '$[*].reason') from wakelog.dead_letters"
    ).fetchone()
    assert letter == (5, 2, ["failed", "stalled", "stalled", "failed", "failed"])
    assert one(connection, FAILED_EVENTS) == 1


def test_a_dead_letter_returns_with_its_id_and_its_history(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    start_workers(
        """
        @app.agent("agent", on="work", start="beginning", max_attempts=2, backoff=Fixed(0))
        def agent(event, ctx):
            if not (folder / "mended").exists():
                raise ValueError("broken")
            return {"id": str(event.id), "attempt": ctx.attempt}
        """
    )
    connection.execute("select wakelog.append('work')")
    until(lambda: one(connection, "select count(*) from wakelog.dead"))
    event_id = one(connection, "select event_id from wakelog.dead_letters")

    # Again in vain: the record goes on, and the round has as many attempts as the first.
    assert one(connection, "select wakelog.retry_dead('agent', 1)") is True
    until(lambda: one(connection, "select jsonb_array_length(failures) from wakelog.dead") == 4)
    assert one(connection, "select event_id from wakelog.dead_letters") == event_id

    (tmp_path / "mended").touch()
    assert one(connection, "select wakelog.retry_dead('agent', 1)") is True
    until(lambda: one(connection, "select count(*) from wakelog.history"))
    assert one(connection, "select payload from wakelog.events where type = 'agent.completed'") == {
        "id": str(event_id), "attempt": 1,
    }  # fmt: skip
    done = connection.execute(
        "select position, outcome, attempts, jsonb_array_length(failures) from wakelog.history"
    ).fetchone()
    assert done == (1, "completed", 1, 4)
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert one(connection, FAILED_EVENTS) == 2, "each death is told, and told once"
    assert one(connection, "select wakelog.retry_dead('agent', 1)") is False, "there is none any more"


def test_a_dead_letter_can_be_let_go(connection: psycopg.Connection) -> None:
    dead = bury(connection)
    assert one(connection, "select wakelog.discard_dead('agent', %s)", dead.position) is True
    assert one(connection, "select wakelog.discard_dead('agent', %s)", dead.position) is False
    assert one(connection, "select count(*) from wakelog.dead") == 0
    kept = connection.execute(
        "select outcome, attempts, failures -> 0 ->> 'error' from wakelog.history"
    ).fetchall()
    assert kept == [("discarded", 1, "no")]
    assert claim(connection, "agent", dead.worker) == []


def test_the_record_is_bounded(connection: psycopg.Connection) -> None:
    """The last 20 attempts, and the beginning of each error and the end of each traceback."""
    register(connection, "agent", max_attempts=30)
    worker = start_worker(connection, "agent")
    append(connection)
    for n in range(1, 31):
        (held,) = claim(connection, "agent", worker)
        assert held.attempt == n
        connection.execute(
            "select wakelog.fail('agent', 1, %s, %s, %s, %s)",
            [worker, n, f"error {n} " + "x" * 10_000, "y" * 50_000 + "the line that failed"],
        )
    failures = one(connection, "select failures from wakelog.dead_letters")
    assert [failure["attempt"] for failure in failures] == list(range(11, 31))
    assert {(len(failure["error"]), len(failure["detail"])) for failure in failures} == {(2000, 8000)}
    assert failures[-1]["error"].startswith("error 30 ")
    assert failures[-1]["detail"].endswith("the line that failed")
    assert one(connection, "select attempts from wakelog.dead_letters") == 30
    assert one(connection, FAILED_EVENTS) == 1


def test_work_over_which_workers_keep_dying_is_given_up(connection: psycopg.Connection) -> None:
    register(connection, "agent", max_stalled=2, max_attempts=1)
    append(connection)
    for n in range(1, 4):
        worker = start_worker(connection, "agent")
        assert [held.attempt for held in claim(connection, "agent", worker)] == [n]
        connection.execute("select wakelog.stop_worker(%s)", [worker])
    assert claim(connection, "agent", start_worker(connection, "agent")) == []
    letter = connection.execute(
        "select reason, attempts, stalled, jsonb_path_query_array(failures, '$[*].reason') from wakelog.dead_letters"
    ).fetchone()
    assert letter == ("stalled", 3, 3, ["stalled"] * 3)
    assert one(connection, FAILED_EVENTS) == 1


def bury(connection: psycopg.Connection) -> Token:
    register(connection, "agent")
    append(connection)
    (held,) = claim(connection, "agent", start_worker(connection, "agent"))
    connection.execute(
        "select wakelog.fail('agent', %s, %s, 1, 'no', p_final => true)", [held.position, held.worker]
    )
    return held
