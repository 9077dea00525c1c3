"""A rebuild, interrupted by Ctrl-C or killed, keeps what it did; its result is that of one that was never disturbed."""

import json
import signal
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.processes import write_app
from tests.worker.waiting import one, until

from wakelog import Wakelog
from wakelog.agents.load import load_app
from wakelog.testing import LogUnderTest

__all__ = ["processes"]

SLOW = folds.PER_BATCH.replace(
    "with connection.cursor() as cursor:",
    "time.sleep(len(events) * 0.004 * (folder / 'slow').exists())\n        with connection.cursor() as cursor:",
)
FOLDING = "wakelog projection totals"
ATTENDED = "select position from wakelog.projection_status where attended"


EVENTS = 3000


@pytest.fixture
def app(connection: psycopg.Connection, database: str, tmp_path: Path) -> Path:
    """An application whose projection serves, and has EVENTS events."""
    path = write_app(tmp_path / "app.py", dedent(folds.app(SLOW)))
    folds.count(connection, range(EVENTS), keys=50)
    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(str(path)))
    return path


def disturbed(
    connection: psycopg.Connection, processes: Processes, app: Path, how: signal.Signals, several: int
) -> None:
    (app.parent / "slow").touch()
    before = folds.rows(connection)
    command = ["projection", "rebuild", "totals", "--app", str(app), "--processes", str(several), "--json"]
    environment = {"DATABASE_URL": connection.info.dsn}
    first = processes.start(*command, folder=app.parent, **environment)
    at = until(lambda: one(connection, ATTENDED))
    first.send_signal(how)
    first.wait(20)
    assert first.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    until(
        lambda: one(
            connection, "select count(*) = 0 from pg_stat_activity where application_name = %s", FOLDING
        )
    )
    assert 0 < one(connection, ATTENDED) < EVENTS
    assert folds.rows(connection) == before
    assert one(connection, "select min(parts) from wakelog.projection_status where attended") == several

    (app.parent / "slow").unlink()
    second = processes.start(*command, folder=app.parent, **environment)
    out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    said = json.loads(out)
    assert said["served"]
    assert said["events"] <= EVENTS - at
    assert folds.rows(connection) == before == folds.by_hand(connection)


def test_after_ctrl_c(connection: psycopg.Connection, processes: Processes, app: Path) -> None:
    disturbed(connection, processes, app, signal.SIGINT, 1)


def test_killed_over_several_processes_with_nobody_left_behind(
    connection: psycopg.Connection, processes: Processes, app: Path
) -> None:
    disturbed(connection, processes, app, signal.SIGKILL, 2)


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
@pytest.mark.parametrize("several", [1, 2, 3])
def test_however_it_ends(
    connection: psycopg.Connection, processes: Processes, app: Path, how: signal.Signals, several: int
) -> None:
    disturbed(connection, processes, app, how, several)


def test_live_traffic_goes_into_both(
    connection: psycopg.Connection, processes: Processes, app: Path, database: str
) -> None:
    with Producers(database) as producers:
        for several in ("1", "2"):
            until(lambda: producers.appended > 100)
            rebuild = processes.start(
                "projection", "rebuild", "totals", "--app", str(app), "--processes", several,
                folder=app.parent, DATABASE_URL=database,
            )  # fmt: skip
            _, err = rebuild.communicate(timeout=30)
            assert rebuild.returncode == 0, err
    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(str(app)))
    assert folds.rows(connection) == folds.by_hand(connection)


def test_in_sql_several_processes_fold_what_one_does(
    connection: psycopg.Connection, processes: Processes, database: str, tmp_path: Path
) -> None:
    """Also where some events have no key."""
    app = Wakelog("test")
    statement = folds.SQL.replace("payload ->> 'key'", "coalesce(payload ->> 'key', 'none')")
    app.projection("totals", sql=statement, tables=folds.SQL_TABLES, partition_by="payload.key")
    folds.count(connection, range(3000), keys=50)
    connection.execute(
        "insert into wakelog.events (type, payload)"
        " select 'counted', jsonb_build_object('n', n) from generate_series(1, 10) n"
    )
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
    serial = dump(connection)
    rebuild = processes.start(
        "projection",
        "rebuild",
        "totals",
        "--processes",
        "3",
        "--json",
        folder=tmp_path,
        DATABASE_URL=database,
    )
    out, err = rebuild.communicate(timeout=30)
    assert rebuild.returncode == 0, err
    assert json.loads(out)["served"]
    assert dump(connection) == serial
    assert serial.count(b"\n") == 51


def test_dropped_and_replayed_it_is_the_same_to_the_byte(
    connection: psycopg.Connection, database: str, tmp_path: Path
) -> None:
    path = write_app(tmp_path / "replayed.py", dedent(folds.app(folds.PER_EVENT)))
    app = load_app(str(path))
    folds.count(connection, range(700))
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
        before = dump(connection)
        connection.execute("select wakelog.drop_projection('totals')")
        assert one(connection, "select to_regnamespace('totals')") is None
        log.run_until_idle(app)
    assert dump(connection) == before
    assert before.count(b"\n") == 5


def dump(connection: psycopg.Connection) -> bytes:
    with connection.cursor().copy("copy (select * from totals.totals order by key) to stdout") as copy:
        return b"".join(bytes(data) for data in copy)
