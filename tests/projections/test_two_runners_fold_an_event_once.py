"""Two that run one projection at once: the checkpoint is compared and set, and each event is folded once."""

import threading
from contextlib import closing

import psycopg
import pytest
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import Wakelog
from wakelog.errors import CheckpointMoved, translate
from wakelog.projections.builds import register
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.folding import Folding


def declared() -> Wakelog:
    app = Wakelog("test")

    @app.projection("totals", on="counted", tables=folds.TABLES)
    def fold(event: object, connection: psycopg.Connection) -> None:
        given = {"key": event.payload["key"], "n": str(event.payload["n"])}  # pyright: ignore
        connection.execute(folds.ONE, given)

    return app


def test_though_they_race(connection: psycopg.Connection, database: str) -> None:
    definition = declared().projections["totals"]
    number = register(connection, definition)
    assert number is not None
    folds.count(connection, range(1000))
    moved: list[int] = []

    def run() -> None:
        with closing(open_projection_connection(database, "totals")) as own:
            folding = Folding(own, number, definition)
            folding.window = 17
            while not (step := folding.advance()).at_end:
                folding.window = 17
                moved.append(step.moved)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(connection, "select position from wakelog.checkpoints") == 1000
    assert sum(moved) <= 1000
    (schema,) = connection.execute("select schema from wakelog.projection_builds").fetchone() or ("",)
    assert folds.rows(connection, schema) == folds.by_hand(connection)


def test_whoever_comes_second_with_the_same_range_commits_nothing(
    connection: psycopg.Connection, database: str
) -> None:
    number = register(connection, declared().projections["totals"])
    folds.count(connection, range(10))
    connection.autocommit = False
    connection.execute("select wakelog.begin_projecting(%s)", [number])
    with pytest.raises(psycopg.Error) as refused:
        connection.execute("select wakelog.finish_projecting(%s, 0, 5, 10)", [number])
    connection.rollback()
    assert isinstance(translate(refused.value), CheckpointMoved)
    assert one(connection, "select position from wakelog.checkpoints") == 0


def test_a_range_that_is_not_finished_cannot_be_committed(
    connection: psycopg.Connection, database: str
) -> None:
    number = register(connection, declared().projections["totals"])
    folds.count(connection, range(10))
    with pytest.raises(psycopg.Error, match="before it was finished"), connection.transaction():
        connection.execute("select wakelog.begin_projecting(%s)", [number])
    assert one(connection, "select position || ' ' || busy from wakelog.checkpoints") == "0 false"


def test_another_process_takes_over_when_the_runner_dies(
    connection: psycopg.Connection, start_workers: StartWorkers
) -> None:
    workers = start_workers(folds.app(folds.PER_EVENT), processes=2)
    folds.until_caught_up(connection)
    runner = "select runner_pid from wakelog.projection_status"
    first = until(lambda: one(connection, runner))
    connection.execute("select pg_terminate_backend(%s)", [first])
    until(lambda: one(connection, runner) not in (None, first), within=5)
    folds.count(connection, range(20))
    folds.until_caught_up(connection)
    assert folds.rows(connection) == folds.by_hand(connection)
    assert len(workers.pids()) == 2
