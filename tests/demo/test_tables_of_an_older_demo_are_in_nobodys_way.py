"""What the demo of an older checkout has left is kept, and what is somebody else's is not touched: said at once."""

from pathlib import Path

import psycopg
import pytest
from psycopg import Connection
from tests.demo.running import start_demo
from tests.worker.waiting import one

from wakelog.postgres.embedded import EmbeddedPostgres
from wakelog.postgres.schema import upgrade
from wakelog_cli.demo_tables import SHAPES, make_collecting_tables
from wakelog_cli.failures import ExitCode, Failure

OLD = """
    create schema ci;
    create table ci.pushes (push uuid constraint pushes_by_event primary key, commit text not null);
    create table ci.results (
        push uuid not null constraint results_of_a_push references ci.pushes, "check" text not null,
        outcome text not null, summary text, constraint results_one_per_check primary key (push, "check"));
    insert into ci.pushes values (gen_random_uuid(), 'abc');
"""
NEW = """
    insert into ci.pushes (workflow, commit) values ('w', 'abc') on conflict (workflow) do nothing;
    insert into ci.results values ('w', 'lint', 'success', null) on conflict do nothing;
"""


@pytest.fixture
def connection(empty_database: str) -> Connection:
    return psycopg.connect(empty_database, autocommit=True)


def make(connection: Connection, *, ours: bool) -> list[str]:
    said: list[str] = []
    with connection:
        make_collecting_tables(connection, ours=ours, say=said.append)
        connection.execute(NEW)
        # And again: they are as they are to be.
        make_collecting_tables(connection, ours=ours, say=said.append)
        assert one(connection, "select count(*) from ci.results") == 1
    return said


def test_in_a_database_of_its_own_they_are_renamed(connection: Connection, empty_database: str) -> None:
    connection.execute("create schema ci_before_1")
    connection.execute(OLD)
    assert make(connection, ours=True) == [
        "The tables of an older demo are kept, in the schema ci_before_2; new ones are made."
    ]
    with psycopg.connect(empty_database) as looking:
        assert one(looking, "select commit from ci_before_2.pushes") == "abc"


@pytest.mark.parametrize("ours", [True, False])
def test_where_there_are_none_they_are_made(connection: Connection, ours: bool) -> None:
    assert make(connection, ours=ours) == []


def test_columns_that_somebody_added_do_no_harm(connection: Connection) -> None:
    make_collecting_tables(connection, ours=False, say=print)
    connection.execute("alter table ci.results add column seen timestamptz")
    assert make(connection, ours=False) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (False, OLD, "push uuid, commit text; by push"),
        (True, OLD + "create table ci.deploys (id int);", "push uuid, commit text; by push"),
        (True, OLD + "create function ci.now() returns text return 'now';", "push uuid, commit text; by push"),
        (False, "create schema ci; create table ci.pushes (workflow text, commit text)", "commit text; by nothing"),
        (False, "create schema ci; create view ci.results as select 1 as outcome", "outcome integer; by nothing"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_is_left_alone(
    connection: Connection, ours: bool, theirs: str, found: str
) -> None:
    connection.execute(theirs.encode())
    with pytest.raises(Failure, match="expected the demo's own table ci") as refused:
        make_collecting_tables(connection, ours=ours, say=print)
    assert f"{found})" in str(refused.value)
    assert any(shape in str(refused.value) for shape in SHAPES.values())
    assert refused.value.code == ExitCode.CONFLICT
    assert one(connection, "select count(*) from pg_namespace where nspname like 'ci%%'") == 1
    connection.close()


def test_the_demo_says_so_before_it_begins(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(OLD)
        demo = start_demo(tmp_path, "--commits", "1", database=database)
        _, err = demo.communicate(timeout=60)
        assert demo.returncode == 5, err
        [sentence] = err.splitlines()
        assert "found another one (push uuid, commit text; by push)" in sentence
        assert sentence.endswith("in psql: alter schema ci rename to ci_before")
        assert one(connection, "select count(*) from wakelog.events") == 0


@pytest.mark.soak
def test_in_the_private_database_of_an_older_checkout_it_comes_out_right(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ".wakelog") as server:
        upgrade(server.url)
        with psycopg.connect(server.url) as connection:
            connection.execute(OLD)
        demo = start_demo(tmp_path, "--commits", "1")
        out, err = demo.communicate(timeout=60)
        assert demo.returncode == 0, (out, err)
        assert "kept, in the schema ci_before_1" in out
        with psycopg.connect(server.url) as connection:
            assert one(connection, "select commit from ci_before_1.pushes") == "abc"
