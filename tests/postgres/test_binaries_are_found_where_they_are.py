"""Which PostgreSQL is taken: the named one, else an installed one, else the wheel's."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from wakelog.postgres import binaries as module
from wakelog.postgres.account import server_account
from wakelog.postgres.binaries import Binaries, BinariesNotFound, all_binaries, find_binaries, runnable_by
from wakelog.postgres.embedded import EmbeddedPostgres


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAKELOG_PG_HIDE_INSTALLED", "1")
    monkeypatch.delenv("WAKELOG_PG_BIN", raising=False)


@pytest.mark.usefixtures("nothing_installed")
def test_the_wheel_is_enough(folder: Path) -> None:
    found = find_binaries()
    assert (found.origin, found.major) == ("wheel", 18)
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.url) as connection:
        assert connection.info.server_version // 10000 == 18
        # Its libraries are found as well.
        connection.execute("do $$ begin perform 1; end $$")


def test_an_installed_one_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAKELOG_PG_BIN", raising=False)
    origins = [found.origin for found in all_binaries()]
    assert origins == sorted(origins)
    installed = [found.major for found in all_binaries() if found.origin == "installed"]
    assert installed == sorted(installed, reverse=True)


@pytest.mark.usefixtures("nothing_installed")
def test_a_named_folder_comes_first_and_must_be_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAKELOG_PG_BIN", str(find_binaries("16").bindir))
    assert (find_binaries().origin, find_binaries().major) == ("named", 16)
    monkeypatch.setenv("WAKELOG_PG_BIN", str(folder))
    with pytest.raises(BinariesNotFound, match=f"WAKELOG_PG_BIN={folder}.*pg_config --bindir"):
        find_binaries()


@pytest.mark.usefixtures("nothing_installed")
def test_an_old_version_is_no_use(folder: Path) -> None:
    for name in ("postgres", "initdb", "pg_ctl"):
        (folder / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.22'\n")
        (folder / name).chmod(0o755)
    with pytest.raises(BinariesNotFound, match="older version"):
        find_binaries(str(folder))


@pytest.mark.usefixtures("nothing_installed")
def test_where_there_is_none_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHEEL", "no_such_wheel")
    with pytest.raises(BinariesNotFound, match=r"found none; .*pip install 'wakelog\[embedded\]'"):
        find_binaries()


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root runs servers as an account that might not reach them"
)
def test_a_wheel_out_of_the_accounts_reach_is_copied_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CACHE", folder / "cache")
    real = find_binaries("wheel")
    package = real.bindir.parent.parent
    (tmp_path / package.name).mkdir()
    (tmp_path / package.name / real.bindir.parent.name).symlink_to(real.bindir.parent)
    (tmp_path / f"{package.name}.libs").symlink_to(package.parent / f"{package.name}.libs")
    tmp_path.chmod(0o700)
    hidden = Binaries(tmp_path / package.name / real.bindir.parent.name / "bin", real.version, "wheel")
    copied = runnable_by(server_account(), hidden)
    assert copied.bindir.is_relative_to(folder / "cache")
    assert (copied.program("postgres")).stat().st_uid == 0
    made = copied.bindir.stat().st_mtime_ns
    assert runnable_by(server_account(), hidden).bindir.stat().st_mtime_ns == made
    with EmbeddedPostgres(folder / ".wakelog", binaries=hidden) as server:
        assert server.binaries.bindir == copied.bindir
        with psycopg.connect(server.url) as connection:
            connection.execute("do $$ begin perform 1; end $$")
    shutil.rmtree(folder / "cache")
