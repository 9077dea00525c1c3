"""What a command made aside, to look or to compare, goes when the command was killed, and not a moment before."""

import signal
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.processes import write_app
from tests.worker.waiting import one, until

from wakelog.agents.load import load_app
from wakelog.projections.rebuilding import begin_aside
from wakelog.testing import LogUnderTest

__all__ = ["processes"]

SLOW = folds.PER_EVENT.replace(
    "def totals(event, connection):",
    "def totals(event, connection):\n        time.sleep(0.1 * (folder / 'slow').exists())",
)
ASIDE = "select array_agg(id) from wakelog.projection_builds where state = 'aside'"
FOLDED_ASIDE = "select bool_or(runner_pid is not null) from wakelog.projection_status where state = 'aside'"
SCHEMAS = "select count(*) from pg_namespace where nspname ~ '^(totals|then)'"


@pytest.fixture
def app(connection: psycopg.Connection, database: str, tmp_path: Path) -> Path:
    """An application whose projection serves, and has 100 events."""
    path = write_app(tmp_path / "app.py", dedent(folds.app(SLOW)))
    folds.count(connection, range(100))
    with LogUnderTest(database) as log:
        log.run_until_idle(load_app(str(path)))
    return path


def test_a_worker_drops_it(
    connection: psycopg.Connection, database: str, app: Path, start_workers: StartWorkers
) -> None:
    definition = load_app(str(app)).projections["totals"]
    lives, dies = (psycopg.connect(database, autocommit=True) for _ in range(2))
    with lives, dies:
        held = begin_aside(lives, "totals", definition, 90, "then_1").build
        begin_aside(dies, "totals", definition, 90, "then_2")
        dies.close()
        start_workers(folds.app(SLOW))
        # The worker looks at them in their order, so it has left alone the one that somebody is at.
        until(lambda: one(connection, ASIDE) == [held])
        lives.close()
        until(lambda: one(connection, ASIDE) is None)
    assert one(connection, SCHEMAS) == 1


def test_the_next_command_drops_it(
    connection: psycopg.Connection, database: str, app: Path, processes: Processes
) -> None:
    show = ("projection", "show", "totals", "--app", str(app), "--position")
    (app.parent / "slow").touch()
    killed = processes.start(*show, "90", folder=app.parent, DATABASE_URL=database)
    until(lambda: one(connection, FOLDED_ASIDE))
    killed.send_signal(signal.SIGKILL)
    until(lambda: not one(connection, FOLDED_ASIDE))
    assert len(one(connection, ASIDE)) == 1
    (app.parent / "slow").unlink()
    assert processes.start(*show, "10", folder=app.parent, DATABASE_URL=database).wait(20) == 0
    assert one(connection, ASIDE) is None
    assert one(connection, SCHEMAS) == 1
