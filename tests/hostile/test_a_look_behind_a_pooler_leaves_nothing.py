"""Behind a pooler that lends sessions for a transaction, a look at the past comes out right; killed, it is put away."""

import json
import signal
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.processes import write_app
from tests.worker.waiting import one, until

from wakelog.agents.load import load_app
from wakelog.postgres.connect import connect
from wakelog.projections.aside import LookAside
from wakelog.testing import LogUnderTest
from wakelog_cli.main import run

__all__ = ["processes"]

Connection = psycopg.Connection[Any]

SLOW = folds.PER_EVENT.replace(
    "def totals(event, connection):",
    "def totals(event, connection):\n        time.sleep(0.1 * (folder / 'slow').exists())",
)
ASIDE = "select coalesce(array_agg(id), '{}') from wakelog.projection_builds where state = 'aside'"
LOOKED_AT = "select count(*) from wakelog.projection_status where state = 'aside' and runner_pid is not null"
LOCKS = """
    select count(*) from pg_locks
    where locktype = 'advisory' and classid::int = wakelog.lock_space('projection')
      and database = (select oid from pg_database where datname = current_database())
"""


@pytest.fixture
def app(connection: Connection, database: str, tmp_path: Path) -> Path:
    """An application whose projection serves, and has 100 events."""
    path = write_app(tmp_path / "app.py", dedent(folds.app(SLOW)))
    folds.count(connection, range(100))
    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(str(path)))
    return path


def test_it_comes_out_right(
    connection: Connection, pooled: str, app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> Any:
        assert run(["projection", *arguments, "--app", str(app), "--database", pooled, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert said("verify", "totals")["same"] is True
    found = said("show", "totals", "--position", "90")["tables"]["totals"]
    assert [tuple(row.values()) for row in found] == folds.by_hand(connection, 90)
    assert len(said("show", "totals", "--between", "90", "91")["changes"]) == 1
    found = said("why", "totals", "totals", "key=k3")["events"]
    assert [event["position"] for event in found] == list(range(4, 101, 5))
    assert one(connection, ASIDE) == []
    assert one(connection, LOCKS) == 0


def test_killed_it_goes_and_another_stays(
    connection: Connection, pooled: str, app: Path, processes: Processes, start_workers: StartWorkers
) -> None:
    definition = load_app(str(app)).projections["totals"]
    show = ("projection", "show", "totals", "--app", str(app), "--position", "90")
    with connect(pooled) as own, LookAside(own, pooled, "totals", definition) as look:
        # First in their order, in which all look at them who drop.
        lives = look.make(90).build

        def killed() -> None:
            (app.parent / "slow").touch()
            process = processes.start(*show, folder=app.parent, DATABASE_URL=pooled)
            until(lambda: process.poll() is not None or one(connection, LOOKED_AT) == 2)
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGKILL)
            (app.parent / "slow").unlink()
            until(lambda: one(connection, LOCKS) == 1)
            assert len(one(connection, ASIDE)) == 2

        killed()
        assert processes.start(*show, folder=app.parent, DATABASE_URL=pooled).wait(20) == 0
        assert one(connection, ASIDE) == [lives]

        killed()
        workers = start_workers(folds.app(SLOW), url=pooled)
        until(lambda: one(connection, ASIDE) == [lives])
        assert "LISTEN does not work here" in workers.said()
    assert one(connection, ASIDE) == []
