"""A rebuild, interrupted by Ctrl-C or killed, keeps what it did; its result is that of one that was never disturbed."""

import json
import os
import signal
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.conftest import StartWorkers
from tests.worker.processes import write_app
from tests.worker.waiting import one, until

from wakelog.testing import LogUnderTest

__all__ = ["processes"]

SLOW = folds.PER_BATCH.replace(
    "with connection.cursor() as cursor:",
    "time.sleep(len(events) * 0.0005 if (folder / 'slow').exists() else 0)\n        with connection.cursor() as cursor:",
)
ATTENDED = "select position from wakelog.projection_status where attended"


@pytest.fixture
def app(connection: psycopg.Connection, start_workers: StartWorkers, tmp_path: Path) -> Path:
    """An application whose projection serves 4,000 events, with its worker."""
    folds.count(connection, range(4000), keys=50)
    start_workers(folds.app(SLOW))
    folds.until_caught_up(connection)
    return tmp_path / "app_1.py"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
@pytest.mark.parametrize("several", ["1", "2"])
def test_however_it_ends(
    connection: psycopg.Connection, processes: Processes, app: Path, how: signal.Signals, several: str
) -> None:
    (app.parent / "slow").touch()
    before = folds.rows(connection)
    command = ["projection", "rebuild", "totals", "--app", str(app), "--processes", several, "--json"]
    environment = {"DATABASE_URL": connection.info.dsn}
    first = processes.start(*command, folder=app.parent, **environment)
    at = until(lambda: one(connection, ATTENDED))
    first.send_signal(how)
    first.wait(20)
    assert first.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert 0 < one(connection, ATTENDED) < 4000
    assert folds.rows(connection) == before
    assert one(connection, "select min(parts) from wakelog.projection_status where attended") == int(several)

    (app.parent / "slow").unlink()
    second = processes.start(*command, folder=app.parent, **environment)
    out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    said = json.loads(out)
    assert said["served"]
    assert said["events"] <= 4000 - at
    assert folds.rows(connection) == before == folds.by_hand(connection)


def test_live_traffic_goes_into_both(
    connection: psycopg.Connection, processes: Processes, app: Path, database: str
) -> None:
    with Producers(database) as producers:
        for several in ("1", "2"):
            until(lambda: producers.appended > 200)
            rebuild = processes.start(
                "projection", "rebuild", "totals", "--app", str(app), "--processes", several,
                folder=app.parent, DATABASE_URL=database,
            )  # fmt: skip
            _, err = rebuild.communicate(timeout=30)
            assert rebuild.returncode == 0, err
    folds.until_caught_up(connection)
    assert folds.rows(connection) == folds.by_hand(connection)


def test_dropped_and_replayed_it_is_the_same_to_the_byte(
    connection: psycopg.Connection, database: str, tmp_path: Path
) -> None:
    from wakelog.agents.load import load_app

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


def test_nobody_is_left_behind(connection: psycopg.Connection, processes: Processes, app: Path) -> None:
    (app.parent / "slow").touch()
    rebuild = processes.start(
        "projection", "rebuild", "totals", "--app", str(app), "--processes", "2",
        folder=app.parent, DATABASE_URL=connection.info.dsn,
    )  # fmt: skip
    until(lambda: one(connection, ATTENDED))
    os.kill(rebuild.pid, signal.SIGKILL)
    rebuild.wait()
    until(
        lambda: one(
            connection,
            """select count(*) = 1 from pg_stat_activity
               where application_name = 'wakelog projection totals' and datname = current_database()""",
        )
    )
