"""One throwaway PostgreSQL for the whole session, and a fresh database for each test that asks for one.

Which PostgreSQL: --postgres or WAKELOG_TEST_POSTGRES: `installed`, `wheel`, a major version, a folder of programs.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from tests.databases import Copies
from tests.memory import roomy_memory
from tests.prepared import PreparedPostgres
from tests.worker.supervisors import Supervisors

from wakelog.postgres.binaries import Binaries, BinariesNotFound, find_binaries
from wakelog.testing import ThrowawayPostgres
from wakelog.testing.databases import schema_template

_chosen = pytest.StashKey[Binaries]()

# How long an example takes says something of the machine and nothing of what is tested.
settings.register_profile("wakelog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wakelog")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        default=os.environ.get("WAKELOG_TEST_POSTGRES") or None,
        help="the PostgreSQL to test on: installed, wheel, a major version such as 16, or a folder of programs",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Where the tests run in the background of a shell, Ctrl-C is ignored, and by every process they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config.stash[_chosen] = find_binaries(config.getoption("--postgres"))
    except BinariesNotFound as nothing:
        raise pytest.UsageError(str(nothing)) from nothing


def pytest_report_header(config: pytest.Config) -> str:
    return f"tested on: {config.stash[_chosen]}"


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> Binaries:
    """The PostgreSQL this run is for."""
    return pytestconfig.stash[_chosen]


@pytest.fixture(scope="session")
def server(binaries: Binaries) -> Iterator[ThrowawayPostgres]:
    """The session's server: quick and careless about crashes."""
    with ExitStack() as closing:
        with pytest.MonkeyPatch.context() as patch:
            if memory := roomy_memory():
                patch.setattr(tempfile, "tempdir", str(memory))
            running = closing.enter_context(ThrowawayPostgres(binaries))
        yield running


@pytest.fixture(scope="session")
def template(server: ThrowawayPostgres) -> Iterator[str]:
    """The name of a database with Wakelog's schema in it, for others to be copied from."""
    with schema_template(server) as name:
        yield name


@pytest.fixture(scope="session")
def copies(server: ThrowawayPostgres, template: str) -> Iterator[Copies]:
    """The session's supply of databases with Wakelog's schema in them."""
    with Copies(server, template) as supply:
        yield supply


@pytest.fixture(scope="session")
def empty_copies(server: ThrowawayPostgres) -> Iterator[Copies]:
    """The session's supply of databases with nothing in them."""
    with Copies(server, "template1") as supply:
        yield supply


@pytest.fixture
def database(copies: Copies) -> Iterator[str]:
    """The URL of a fresh database with Wakelog's schema in it."""
    with copies.one() as url:
        yield url


@pytest.fixture
def empty_database(empty_copies: Copies) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    with empty_copies.one() as url:
        yield url


@pytest.fixture(scope="session")
def prepared(binaries: Binaries) -> Iterator[Path]:
    """The data of a server that is stopped, with Wakelog in its database `test`."""
    with ThrowawayPostgres(binaries) as server:
        _install_schema(server.url())
        server.terminate()
        yield Path(server.get_data_directory())


@pytest.fixture
def crashable_server(binaries: Binaries, prepared: Path) -> Iterator[ThrowawayPostgres]:
    """A server of the test's own that it may `crash()` and `start()` again; Wakelog is in `url()`, on durable disks."""
    with PreparedPostgres(binaries, prepared) as running:
        yield running
        if running.is_alive():
            running.crash()  # as nobody wants its data, a last checkpoint is not waited for


@pytest.fixture(scope="session")
def supervisors() -> Iterator[Supervisors]:
    """Where the supervisors of worker processes come from; nothing is started before one is wanted."""
    with Supervisors() as ahead:
        yield ahead


def _install_schema(url: str) -> None:
    # Imported here, so that tests of the server itself run without a schema.
    from wakelog.postgres.schema import install

    with psycopg.connect(url) as connection:
        install(connection)
