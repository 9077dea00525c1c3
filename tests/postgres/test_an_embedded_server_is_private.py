"""The embedded server is its owner's alone: loopback, a password, an unprivileged account."""

import os
import stat
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wakelog.postgres.account import Account, server_account
from wakelog.postgres.binaries import Binaries, runnable_by
from wakelog.postgres.embedded import EmbeddedPostgres, ServerFailed

pytestmark = pytest.mark.every_postgres
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account to run the server as")


@pytest.fixture
def started(folder: Path, binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedPostgres]:
    monkeypatch.setenv("WAKELOG_TEST_SECRET", "not for the server's ears")
    with EmbeddedPostgres(folder / ".wakelog", binaries=binaries) as server:
        yield server


def postmaster_pid(server: EmbeddedPostgres) -> int:
    return int((server.data_folder / "postmaster.pid").read_text().splitlines()[0])


def test_only_who_has_the_password_gets_in_and_only_by_loopback(started: EmbeddedPostgres) -> None:
    with psycopg.connect(started.url) as connection:
        row = connection.execute(
            "select current_setting('listen_addresses'), current_setting('unix_socket_directories'),"
            " current_setting('server_encoding'), current_database(), current_setting('fsync')"
        ).fetchone()
    assert row == ("127.0.0.1", "", "UTF8", "wakelog", "on")
    without = make_conninfo(started.url.replace(str(conninfo_to_dict(started.url)["password"]), ""))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(without)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(make_conninfo(started.url, password="guessed"))


def test_its_files_are_for_its_owner_and_not_for_git(started: EmbeddedPostgres) -> None:
    password = started.folder / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().strip() in started.url
    assert stat.S_IMODE(started.data_folder.stat().st_mode) == 0o700
    assert (started.folder / ".gitignore").read_text() == "*\n"
    assert not list(started.data_folder.parent.glob(".password-*"))


def test_it_runs_as_an_unprivileged_account_that_sees_nothing_of_our_environment(
    started: EmbeddedPostgres,
) -> None:
    pid = postmaster_pid(started)
    told = subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    expected = server_account()
    assert int(told.stdout) == (expected.uid if expected else os.geteuid()) != 0
    try:
        seen = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        pytest.skip("this system does not show a process's environment")
    assert b"WAKELOG_TEST_SECRET" not in seen
    assert b"HOME=" in seen


@as_root
def test_an_ordinary_user_gets_one_of_his_own(folder: Path, binaries: Binaries) -> None:
    nobody = Account("nobody", 65534, 65534)
    os.chown(folder, nobody.uid, nobody.gid)
    reachable = runnable_by(nobody, binaries)

    def start_and_stop() -> None:
        with EmbeddedPostgres(folder / ".wakelog", binaries=reachable) as server:
            assert (folder / ".wakelog" / "postgres").stat().st_uid == nobody.uid
            with psycopg.connect(server.url) as connection:
                connection.execute("create table mine ()")
        assert not server.running

    _in_a_fork_as(nobody, start_and_stop)
    # And root, coming later, runs it as the account that owns the data.
    with EmbeddedPostgres(folder / ".wakelog", binaries=binaries) as server:
        assert Path(f"/proc/{postmaster_pid(server)}").stat().st_uid == nobody.uid
        with psycopg.connect(server.url) as connection:
            connection.execute("table mine")


@as_root
def test_somebody_elses_folder_is_refused_with_a_name(folder: Path, binaries: Binaries) -> None:
    nobody = Account("nobody", 65534, 65534)

    def try_to_start() -> None:
        with pytest.raises(
            ServerFailed, match=f"expected to be able to write to {folder}/.wakelog.*belongs to root"
        ):
            EmbeddedPostgres(folder / ".wakelog", binaries=binaries).start()

    (folder / ".wakelog").mkdir()
    _in_a_fork_as(nobody, try_to_start)


def _in_a_fork_as(account: Account, work: Callable[[], None]) -> None:
    """Run it as another account; a new Python could not start where ours lies in a folder of root's."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
