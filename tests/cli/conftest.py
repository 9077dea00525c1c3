"""The command, run in this process where that is enough, and as a process where the promise is about processes."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Ended, Processes, Wakelog

from wakelog_cli.main import run


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wakelog:
    """The command in an empty folder, with no database named."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(arguments)
        return Ended(int(code), out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def wakelog(bare: Wakelog, database: str, monkeypatch: pytest.MonkeyPatch) -> Wakelog:
    """The command, with DATABASE_URL set to a fresh log."""
    monkeypatch.setenv("DATABASE_URL", database)
    return bare


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A look at what the command did."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def log_of_three(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Three events: push, push, order.paid of a stream."""
    connection.execute(
        """insert into wakelog.events (type, source, payload, stream) values
           ('push', 'github/acme', '{"branch": "main"}', null),
           ('push', '', '{"branch": "next"}', null),
           ('order.paid', '', '{}', 'order-17')"""
    )
    connection.execute("select wakelog.sequence()")
    return connection


@pytest.fixture
def dead_letter(log_of_three: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The agent "tests" wants every push and has given up the first one."""
    c = log_of_three
    c.execute("""select wakelog.register_agent('tests', '{"types": ["push"], "start": "beginning"}')""")
    row = c.execute("select wakelog.start_worker('a-worker', array['tests'])").fetchone()
    assert row is not None
    c.execute("select wakelog.claim('tests', %s, 1)", row)
    c.execute("select wakelog.fail('tests', 1, %s, 1, 'boom [not bold]', 'Traceback: boom', null, true)", row)
    c.execute("select wakelog.stop_worker(%s)", row)
    c.execute("select wakelog.sequence()")
    return c


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.end()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], str], None]:
    def wait(condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, f"{what} did not happen within 30 s"
            time.sleep(0.05)

    return wait
