"""One sentence on stderr, the next command at its end, the right exit code, and never a traceback."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import COMMAND, Ended, Wakelog

from wakelog.postgres import connect

NEEDS_THE_SCHEMA: Sequence[Sequence[str]] = [
    ["append", "push"],
    ["tail"],
    ["agents", "list"],
    ["agents", "pause", "tests"],
    ["workers"],
    ["dead", "list"],
    ["timeline", "x"],
    ["db", "rebase"],
    ["db", "drop-history", "--before", "1d", "--yes"],
    ["worker", "app.py"],
]


def is_one_sentence(ended: Ended, code: int) -> None:
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("wakelog: ")
    assert ended.err.count("\n") == 1
    assert "wakelog " in ended.err.removeprefix("wakelog: ")


@pytest.mark.parametrize("command", NEEDS_THE_SCHEMA, ids=" ".join)
def test_a_database_that_was_never_migrated(
    bare: Wakelog, empty_database: str, command: Sequence[str]
) -> None:
    ended = bare(*command, "--database", empty_database)
    is_one_sentence(ended, 3)
    assert ended.err.rstrip().endswith("wakelog db upgrade")


@pytest.mark.parametrize("command", NEEDS_THE_SCHEMA, ids=" ".join)
def test_a_database_that_is_newer(
    bare: Wakelog, database: str, connection: psycopg.Connection[Any], command: Sequence[str]
) -> None:
    connection.execute("update wakelog.alembic_version set version_num = '9999'")
    ended = bare(*command, "--database", database)
    is_one_sentence(ended, 3)
    assert "newer than this Wakelog" in ended.err


def test_a_newer_database_is_not_taken_back(
    bare: Wakelog, database: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("update wakelog.alembic_version set version_num = '9999'")
    is_one_sentence(bare("db", "upgrade", "--database", database), 3)
    assert connection.execute("select version_num from wakelog.alembic_version").fetchone() == ("9999",)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:1/x",
        "host=127.0.0.1 port=1 password=secret",
        "postgres://me:secret@127.0.0.1:1",
    ],
)
def test_a_url_that_answers_nothing(bare: Wakelog, url: str) -> None:
    ended = bare("lag", "--database", url)
    is_one_sentence(ended, 3)
    assert "no connection" in ended.err
    assert "secret" not in ended.err


@pytest.mark.parametrize(
    "url", ["nonsense", "https://example.org", "postgresql://[", "postgresql://host:port/x"]
)
def test_a_url_that_is_none(bare: Wakelog, url: str) -> None:
    ended = bare("lag", "--database", url)
    assert ended.code in (2, 3)
    is_one_sentence(ended, ended.code)


def test_no_database_at_all(bare: Wakelog) -> None:
    ended = bare("lag")
    is_one_sentence(ended, 2)
    assert ended.err.rstrip().endswith("wakelog up")


def test_a_private_database_that_does_not_run(bare: Wakelog, tmp_path: Path) -> None:
    (tmp_path / ".wakelog").mkdir()
    ended = bare("lag")
    is_one_sentence(ended, 3)
    assert ended.err.rstrip().endswith("wakelog up")


def test_a_postgres_that_is_too_old(wakelog: Wakelog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OLDEST_POSTGRES", 99)
    ended = wakelog("lag")
    is_one_sentence(ended, 3)
    assert "expected PostgreSQL 99 or newer" in ended.err


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("nowhere.py", "nowhere.py"),
        ("no_such_module:app", "no_such_module"),
        ("broken.py", "ZeroDivisionError"),
        ("empty.py", "Wakelog"),
        ("fine.py:other", "other"),
    ],
)
def test_an_application_that_cannot_be_loaded(database: str, tmp_path: Path, app: str, said: str) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "fine.py").write_text("from wakelog import Wakelog\napp = Wakelog('a')\n")
    ended = subprocess.run(
        [*COMMAND, "worker", app, "--database", database],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("wakelog: ")
    assert said in last
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["agents", "nope"],
        ["lag", "--nope"],
        ["worker"],
        ["worker", "a", "--processes", "0"],
        ["worker", "a", "--lease", "soon"],
    ],
)
def test_a_command_that_is_none(bare: Wakelog, arguments: list[str]) -> None:
    ended = bare(*arguments)
    is_one_sentence(ended, 2)
    assert "--help" in ended.err


@pytest.mark.parametrize("arguments", [[], ["agents"], ["dead"], ["db"]])
def test_a_group_alone_shows_its_help(bare: Wakelog, arguments: list[str]) -> None:
    ended = bare(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: wakelog" in ended.err


def test_a_full_disk_is_no_traceback(
    database: str, tmp_path: Path, log_of_three: psycopg.Connection[Any]
) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, "tail", "--database", database],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    is_one_sentence(Ended(ended.returncode, "", ended.stderr), 1)
    assert "No space left" in ended.stderr


def test_bytes_that_are_no_text(wakelog: Wakelog) -> None:
    is_one_sentence(wakelog("agents", "show", "\udcff"), 2)
    is_one_sentence(wakelog("append", "push", "--stream", "\udcff"), 2)


def test_a_lost_connection_is_no_traceback(
    wakelog: Wakelog, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wakelog_cli.agents.rows",
        lambda mine, *_: (
            connection.execute("select pg_terminate_backend(%s)", [mine.info.backend_pid])
            and mine.execute("select 1")
        ),
    )
    is_one_sentence(wakelog("lag"), 3)
