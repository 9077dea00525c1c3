"""ThrowawayPostgres: gone after the tests, however they end; crashes and comes back when asked."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from wakelog.postgres.binaries import Binaries
from wakelog.testing import ThrowawayPostgres

pytestmark = pytest.mark.every_postgres


def test_a_committed_row_survives_a_crash_and_the_port_stays(binaries: Binaries) -> None:
    with ThrowawayPostgres(binaries, durable=True) as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
        with psycopg.connect(server.url()) as cut_off:
            cut_off.execute("insert into kept values (2)")
            url = server.url()
            server.crash()
            with pytest.raises(psycopg.OperationalError):
                cut_off.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        assert server.url() == url
        assert "was not properly shut down" in server.log
        with psycopg.connect(url) as connection:
            assert connection.execute("select n from kept").fetchall() == [(1,)]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_process_that_made_it(
    binaries: Binaries, ended_by: signal.Signals, runs: Callable[[int], bool], eventually: Callable[..., None]
) -> None:
    script = (
        "import sys, time\n"
        "from wakelog.postgres.binaries import find_binaries\n"
        "from wakelog.testing import ThrowawayPostgres\n"
        "with ThrowawayPostgres(find_binaries(sys.argv[1])) as server:\n"
        "    print(server.child_process.pid, server.base_dir, flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(binaries.bindir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        pid, folder = owner.stdout.readline().split()
        assert runs(int(pid))
        # To the whole group, as a terminal does.
        os.killpg(owner.pid, ended_by)
        owner.wait(timeout=30)
    eventually(lambda: not runs(int(pid)), "the end of the server")
    eventually(lambda: not Path(folder).exists(), "the removal of its folder")


def test_a_dropped_database_takes_its_connections_with_it(server: ThrowawayPostgres) -> None:
    url = server.create_database("to_be_dropped")
    with psycopg.connect(url) as connection:
        server.drop_database("to_be_dropped")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
