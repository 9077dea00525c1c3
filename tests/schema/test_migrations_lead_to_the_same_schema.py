"""A database made from sql/, one upgraded by the revisions, and one upgraded by their printed text are the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.schema.dumps import dump

from wakelog.postgres import schema
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import migrations_folder, require_current, status, upgrade, upgrade_sql

pytestmark = pytest.mark.every_postgres


def run_psql(binaries: Binaries, url: str, text: str, folder: Path) -> None:
    script = folder / "upgrade.sql"
    script.write_text(text)
    subprocess.run(
        [binaries.program("psql"), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", script, url], check=True
    )


def test_sql_and_migrations_agree(binaries: Binaries, database: str, empty_database: str) -> None:
    after = upgrade(empty_database)
    assert after.state == "current"
    assert dump(binaries, empty_database) == dump(binaries, database), (
        "sql/ and migrations/ differ: write a revision, or see migrations/README.md"
    )
    with psycopg.connect(empty_database) as connection:
        require_current(connection)


def test_the_printed_upgrade_does_the_same(
    binaries: Binaries, database: str, empty_database: str, tmp_path: Path
) -> None:
    run_psql(binaries, empty_database, upgrade_sql(), tmp_path)
    assert status(empty_database).state == "current"
    assert dump(binaries, empty_database) == dump(binaries, database)


def test_the_alembic_command_does_the_same(binaries: Binaries, database: str, empty_database: str) -> None:
    def alembic(*arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "alembic",
            "-c",
            str(migrations_folder() / "alembic.ini"),
            *arguments,
        ]
        environment = {**os.environ, "DATABASE_URL": empty_database}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    alembic("upgrade", "head")
    assert dump(binaries, empty_database) == dump(binaries, database)
    assert schema.head_revision() in alembic("current")
    assert "create table wakelog.events" in alembic("upgrade", "head", "--sql")


HEAD = schema.head_revision()

NEXT = f"""
from alembic import op

from wakelog.postgres.migration import run_sql_beside

revision = "next"
down_revision = "{HEAD}"


def upgrade() -> None:
    run_sql_beside(__file__, op.get_context())
"""

# Both would be taken for parameters on the way through SQLAlchemy.
NEXT_SQL = """
create table public.traps (word text default ' :word', share text default '100 % of %s');
insert into public.traps default values;
"""


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "100% migrations"
    shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "next_one.py").write_text(NEXT)
    (folder / "versions" / "next_one.sql").write_text(NEXT_SQL)
    monkeypatch.setattr(schema, "migrations_folder", lambda: folder)


def traps(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select * from public.traps").fetchall()


@pytest.mark.usefixtures("next_revision")
def test_text_reaches_the_database_as_it_stands(empty_database: str) -> None:
    assert upgrade(empty_database).current == "next"
    assert traps(empty_database) == [(" :word", "100 % of %s")]


@pytest.mark.usefixtures("next_revision")
def test_and_as_it_stands_offline(binaries: Binaries, empty_database: str, tmp_path: Path) -> None:
    run_psql(binaries, empty_database, upgrade_sql(), tmp_path)
    assert traps(empty_database) == [(" :word", "100 % of %s")]


@pytest.mark.usefixtures("next_revision")
def test_step_by_step(empty_database: str) -> None:
    assert upgrade(empty_database, HEAD).state == "old"
    assert upgrade(empty_database).state == "current"


@pytest.mark.usefixtures("next_revision")
def test_printed_from_where_a_database_is(binaries: Binaries, database: str, tmp_path: Path) -> None:
    # The template was made before there was the next revision.
    text = upgrade_sql(HEAD)
    assert "create table wakelog.events" not in text
    run_psql(binaries, database, text, tmp_path)
    assert status(database).state == "current"


def test_events_from_before_an_upgrade_are_delivered_after_it(empty_database: str) -> None:
    assert upgrade(empty_database, "0001").state == "old"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("insert into wakelog.events (type) values ('old')")
        assert upgrade(empty_database).state == "current"
        connection.execute(
            'select wakelog.register_agent(\'agent\', \'{"types": ["#"], "start": "beginning"}\')'
        )
        connection.execute("select wakelog.sequence()")
        worker = connection.execute("select wakelog.start_worker('a test', '{agent}')").fetchone()
        claimed = connection.execute("select type from wakelog.claim('agent', %s)", worker).fetchall()
    assert claimed == [("old",)]
