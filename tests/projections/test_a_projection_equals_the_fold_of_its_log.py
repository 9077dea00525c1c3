"""Whichever way it is written, a projection is what folding the whole log by hand comes to."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import Wakelog
from wakelog.postgres.binaries import Binaries
from wakelog.testing import LogUnderTest


@pytest.mark.parametrize("way", [folds.PER_EVENT, folds.PER_BATCH], ids=["per event", "per batch"])
def test_in_python(connection: psycopg.Connection, start_workers: StartWorkers, way: str) -> None:
    folds.count(connection, range(500))
    start_workers(folds.app(way))
    folds.until_caught_up(connection)
    folds.count(connection, range(500, 800))
    folds.until_caught_up(connection)
    assert folds.rows(connection) == folds.by_hand(connection)


def test_in_sql_by_a_worker(connection: psycopg.Connection, start_workers: StartWorkers) -> None:
    folds.count(connection, range(5000))
    start_workers(f"app.projection('totals', sql={folds.SQL!r}, tables={folds.SQL_TABLES!r}, on='counted')")
    folds.until_caught_up(connection)
    folds.count(connection, range(500))
    folds.until_caught_up(connection)
    assert folds.rows(connection) == folds.sums_by_hand(connection)


def test_in_sql_by_psql_alone(
    connection: psycopg.Connection, database: str, binaries: Binaries, tmp_path: Path
) -> None:
    folds.count(connection, range(5000))
    script = tmp_path / "project.sql"
    script.write_text(
        f"""
        select wakelog.register_projection('totals', jsonb_build_object(
            'tables', array[$t${folds.SQL_TABLES}$t$], 'statements', array[$s${folds.SQL}$s$]));
        call wakelog.project('totals');
        """
    )
    for more in (0, 700):
        folds.count(connection, range(more))
        subprocess.run(
            [binaries.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, database],
            check=True,
        )
        assert folds.rows(connection) == folds.sums_by_hand(connection)


def test_only_what_it_wants_is_folded(connection: psycopg.Connection, database: str) -> None:
    app = Wakelog("test")
    seen: list[int] = []

    @app.projection("seen", on=["a.*", "b"], tables="create table seen (n bigint)")
    def fold(event: object, connection: object) -> None:
        seen.append(event.position)  # pyright: ignore

    with LogUnderTest(database) as log:
        for type_ in ("a", "a.x", "b", "b.x", "a.y", "c"):
            log.append(type_)
        log.run_until_idle(app)
        log.append("a.z")
        log.append("c")
        log.run_until_idle(app)
    assert seen == [2, 3, 5, 7]
    assert one(connection, "select position from wakelog.projection_status") == 8


def test_an_agent_and_a_projection_share_an_app(
    connection: psycopg.Connection, start_workers: StartWorkers
) -> None:
    start_workers(
        folds.app(folds.PER_EVENT)
        + """
    @app.agent("counter", on="go")
    def counter(event, ctx):
        ctx.emit("counted", {"key": "k1", "n": 1})
    """
    )
    connection.execute("select wakelog.append('go')")
    until(lambda: folds.caught_up(connection) and folds.rows(connection))
    assert folds.rows(connection) == folds.by_hand(connection)
    assert len(folds.rows(connection)) == 1


def test_sqlalchemy_tables_are_its_tables(connection: psycopg.Connection, database: str) -> None:
    import sqlalchemy as sa

    metadata = sa.MetaData()
    runs = sa.Table("runs", metadata, sa.Column("id", sa.BigInteger, primary_key=True), schema="elsewhere")
    sa.Table(
        "stages", metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("run", sa.ForeignKey(runs.c.id), index=True), schema="elsewhere",
    )  # fmt: skip
    app = Wakelog("test")

    @app.projection("ci", tables=metadata, schema="read_models")
    def fold(event: object, connection: psycopg.Connection) -> None:
        connection.execute("insert into runs values (%s)", [event.position])  # pyright: ignore
        connection.execute("insert into stages values (%s, %s)", [event.position] * 2)  # pyright: ignore

    with LogUnderTest(database) as log:
        log.append("a")
        log.run_until_idle(app)
    assert connection.execute("select * from read_models.stages").fetchall() == [(1, 1)]
    assert one(connection, "select count(*) from pg_indexes where schemaname = 'read_models'") == 3
