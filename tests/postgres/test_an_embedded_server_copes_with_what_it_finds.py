"""Crashes, taken ports, renamed folders, unreachable folders, other versions: it starts, or says what to do."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from wakelog.postgres import embedded
from wakelog.postgres.account import server_account
from wakelog.postgres.binaries import Binaries, BinariesNotFound
from wakelog.postgres.embedded import EmbeddedPostgres, ServerFailed

pytestmark = pytest.mark.every_postgres


def remember(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create table if not exists remembered (n int)")
        connection.execute("insert into remembered values (1)")


def remembered(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.url) as connection:
        return connection.execute("select n from remembered").fetchall() == [(1,)]


def lock_file(server: EmbeddedPostgres) -> Path:
    return server.data_folder / "postmaster.pid"


def test_a_killed_server_comes_back_with_its_data(
    folder: Path, binaries: Binaries, runs: Callable[[int], bool], eventually: Callable[..., None]
) -> None:
    server = EmbeddedPostgres(folder, binaries=binaries)
    url = server.start()
    remember(server)
    pid = int(lock_file(server).read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not runs(pid), "the end of the postmaster")
    assert not server.running
    server.stop()
    assert lock_file(server).exists()
    # The number now belongs to another process of the same account, as after a restart of the machine.
    account = server_account()
    bystander = subprocess.Popen(
        ["sleep", "60"],
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    with bystander:
        lines = lock_file(server).read_text().splitlines()
        lock_file(server).write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        with server:
            assert server.url == url
            assert remembered(server)
        assert bystander.poll() is None
        bystander.kill()


def test_a_taken_port_is_left_to_its_owner(folder: Path, binaries: Binaries) -> None:
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        port = json.loads((folder / "server.json").read_text())["port"]
        remember(server)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with server:
            assert f":{port}/" not in server.url
            assert remembered(server)


def test_a_renamed_folder_takes_its_server_along_and_a_copied_one_does_not(
    folder: Path, binaries: Binaries
) -> None:
    before, after, copy = folder / "before", folder / "after", folder / "copy"
    with EmbeddedPostgres(before, binaries=binaries) as started:
        remember(started)
        url = started.url
        before.rename(after)
        with EmbeddedPostgres(after, binaries=binaries) as found:
            assert found.url == url
            assert remembered(found)
        after.rename(before)
        assert EmbeddedPostgres(before).running
        subprocess.run(["cp", "-a", str(before), str(copy)], check=False)
        assert not EmbeddedPostgres(copy).running


def test_an_interrupted_first_start_begins_again(folder: Path, binaries: Binaries) -> None:
    half = folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("15\n")
    (folder / "server.json").write_text("{half a")
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        assert server.running
    assert not half.exists()


@pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user runs the server himself and reaches his own folders"
)
def test_data_that_the_account_could_not_reach_lies_elsewhere(
    folder: Path, tmp_path: Path, binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ELSEWHERE", folder / "elsewhere")
    tmp_path.chmod(0o700)
    project = tmp_path / ".wakelog"
    with EmbeddedPostgres(project, binaries=binaries) as server:
        remember(server)
        assert server.data_folder.is_relative_to(folder / "elsewhere")
        assert not (project / "postgres").exists()
        old_data = server.data_folder
    with EmbeddedPostgres(project, binaries=binaries) as again:
        assert again.data_folder == server.data_folder
        assert remembered(again)
    # The folder was deleted and made again (a fresh clone): it starts afresh, and leaves the old data alone.
    shutil.rmtree(project)
    with EmbeddedPostgres(project, binaries=binaries) as anew:
        assert anew.data_folder != old_data
        assert old_data.exists()
        with psycopg.connect(anew.url) as connection:
            assert connection.execute("select to_regclass('remembered')").fetchone() == (None,)
    # Somebody tidied up: it starts afresh.
    shutil.rmtree(folder / "elsewhere")
    with EmbeddedPostgres(project, binaries=binaries) as afresh, psycopg.connect(afresh.url) as connection:
        assert connection.execute("select to_regclass('remembered')").fetchone() == (None,)


def test_data_of_a_version_that_is_not_here_is_refused_by_name(folder: Path, binaries: Binaries) -> None:
    (folder / "postgres").mkdir(mode=0o700)
    (folder / "postgres" / "PG_VERSION").write_text("11\n")
    with pytest.raises(BinariesNotFound, match=r"expected PostgreSQL 11, .* WAKELOG_PG_BIN"):
        EmbeddedPostgres(folder, binaries=binaries).start()


def test_a_lost_password_is_named(folder: Path, binaries: Binaries) -> None:
    with EmbeddedPostgres(folder, binaries=binaries) as server:
        password = folder / "password"
        kept = password.read_text()
    password.unlink()
    with pytest.raises(ServerFailed, match="expected the password"):
        server.start()
    password.write_text("another\n")
    with pytest.raises(ServerFailed, match="authentication failed"):
        server.start()
    assert not server.running
    password.write_text(kept)
    with server:
        assert server.running


def test_a_server_that_cannot_start_says_why(folder: Path, binaries: Binaries) -> None:
    with pytest.raises(ServerFailed, match=r"max_connections"):
        EmbeddedPostgres(folder, binaries=binaries, settings={"max_connections": "none"}).start()
    assert not EmbeddedPostgres(folder).running
