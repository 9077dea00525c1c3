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
from wakelog.projections.aside import LookAside
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
    lives, dies = (LookAside(connection, database, "totals", definition) for _ in range(2))
    held = lives.make(90, "then_1").build
    cut_off(connection, dies.make(90, "then_2").build)
    start_workers(folds.app(SLOW))
    # The worker looks at them in their order, so it has left alone the one that somebody is at.
    until(lambda: one(connection, ASIDE) == [held])
    cut_off(connection, held)
    until(lambda: one(connection, ASIDE) is None)
    assert one(connection, SCHEMAS) == 1


def cut_off(connection: psycopg.Connection, build: int) -> None:
    """As when the process ends that looks."""
    connection.execute(
        "select pg_terminate_backend(runner_pid, 10000) from wakelog.projection_status where build = %s",
        [build],
    )


def test_who_is_cut_off_before_its_end_drops_it_all_the_same(
    connection: psycopg.Connection, database: str, app: Path
) -> None:
    definition = load_app(str(app)).projections["totals"]
    with LookAside(connection, database, "totals", definition) as look:
        cut_off(connection, look.make(90).build)
    assert one(connection, ASIDE) is None
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
