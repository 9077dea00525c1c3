"""Whatever is wrong with a connection, one sentence says so, without the password."""

import asyncio

import psycopg
import pytest
from tests.worker.waiting import until

from wakelog.errors import BadInput, DatabaseUnreachable, SchemaMismatch
from wakelog.postgres import connect as connecting
from wakelog.postgres.connect import connect, connect_async, database_url, safe_url

SECRET = "s3cr:t@/x%"
IN_URL = "s3cr%3At%40%2Fx%25"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        (f"postgresql://me:{IN_URL}@db:5432/app", "postgresql://me:***@db:5432/app"),
        (f"postgres://me:{IN_URL}@db/app?sslmode=require", "postgres://me:***@db/app?sslmode=require"),
        ("postgresql+psycopg://me:pw@db/app", "postgresql://me:***@db/app"),
        ("postgresql://db/app?user=me&password=pw&x=1", "postgresql://db/app?user=me&password=***&x=1"),
        ("postgresql://me:a@b@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me@db/app", "postgresql://me@db/app"),
        ("host=db password='p w' user=me", "user=me password=*** host=db"),
        ("password=pw nonsense", "something that is no URL"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, safe: str) -> None:
    assert safe_url(url) == safe


def test_a_url_comes_from_the_caller_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://db/from_environment")
    assert database_url() == "postgresql://db/from_environment"
    assert database_url("dbname=given") == "dbname=given"
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(BadInput, match="DATABASE_URL"):
        database_url()


@pytest.mark.parametrize(
    "url", ["mysql://me:pw@db/app", "nonsense", "postgresql://me:p/w@db/app", "host=db pw"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="expected a URL") as error:
        database_url(url)
    assert "pw" not in str(error.value)
    assert "p/w" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [f"postgresql://me:{IN_URL}@127.0.0.1:1/app", f"host=127.0.0.1 port=1 password='{SECRET}'"],
)
def test_no_server_is_one_sentence(url: str) -> None:
    for attempt in (lambda: connect(url), lambda: asyncio.run(connect_async(url))):
        with pytest.raises(DatabaseUnreachable, match=r"no connection to .*refused") as error:
            attempt()
        shown = f"{error.value!s} {error.value!r} {error.value.__cause__}"
        assert SECRET not in shown
        assert IN_URL not in shown


def test_no_such_database_and_no_such_role_are_said(database: str) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not exist"):
        connect(database + "_not")
    with pytest.raises(DatabaseUnreachable, match="does not exist"):
        connect(database.replace("postgres@", "stranger:pw@"))


def test_a_connection_says_whose_it_is(database: str) -> None:
    with connect(database) as connection:
        assert connection.autocommit
        assert connection.execute("show application_name").fetchone() == ("wakelog",)
    with connect(database, application_name="wakelog worker", autocommit=False) as connection:
        assert not connection.autocommit
        assert connection.execute("show application_name").fetchone() == ("wakelog worker",)
    with connect(f"{database}?application_name=mine") as connection:
        assert connection.execute("show application_name").fetchone() == ("mine",)


def test_too_old_a_server_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "OLDEST_POSTGRES", 99)
    with pytest.raises(SchemaMismatch, match="expected PostgreSQL 99 or newer, found"):
        connect(database)
    with pytest.raises(SchemaMismatch):
        asyncio.run(connect_async(database))
    left = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'wakelog'"
    with psycopg.connect(database, autocommit=True) as connection:
        # A server's process ends after its client.
        until(lambda: connection.execute(left).fetchone() == (0,))
