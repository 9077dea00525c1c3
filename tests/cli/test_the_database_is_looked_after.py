"""wakelog db: made, compared, printed, rebased and tidied."""

from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

Connection = psycopg.Connection[Any]


def test_an_empty_database_becomes_a_log(bare: Wakelog, empty_database: str) -> None:
    to = ["--database", empty_database]
    absent = bare("db", "status", *to)
    assert absent.code == 3
    assert absent.out.rstrip().endswith("wakelog db upgrade")
    assert bare("db", "upgrade", *to).out.startswith("The schema is at ")
    assert bare("db", "upgrade", *to).out.startswith("The schema is current already")
    status = bare("db", "status", "--json", *to)
    assert status.code == 0
    assert (status.json["state"], status.json["current"]) == ("current", status.json["head"])
    assert bare("db", "upgrade", "--json", *to).json["state"] == "current"
    assert bare("append", "push", *to).code == 0


def test_functions_of_another_build_are_said_and_replaced(wakelog: Wakelog, connection: Connection) -> None:
    connection.execute("comment on schema wakelog is 'Wakelog 0.0.1, functions 0123456789abcdef'")
    status = wakelog("db", "status")
    assert status.code == 3
    assert "the functions are those of Wakelog 0.0.1" in status.out
    assert wakelog("db", "status", "--json").json["functions_current"] is False
    doctor = {check["check"]: check for check in wakelog("doctor", "--json").json["checks"]}
    assert doctor["schema"]["state"] == "warn"
    assert "workers" in doctor  # looks at the rest all the same
    assert wakelog("append", "push").code == 0
    assert wakelog("db", "upgrade").out.startswith("The schema is at ")
    assert wakelog("db", "status").code == 0


def test_roles_that_came_later_are_given_their_rights(wakelog: Wakelog, connection: Connection) -> None:
    # As if it had been made later: none of its rights is left.
    connection.execute("drop owned by wakelog_reader")
    status = wakelog("db", "status")
    assert status.code == 0
    assert "without rights: wakelog_reader. Next: wakelog db upgrade" in status.out
    doctor = {check["check"]: check for check in wakelog("doctor", "--json").json["checks"]}
    assert (doctor["schema"]["state"], doctor["schema"]["do"]) == ("warn", "wakelog db upgrade")
    assert wakelog("db", "upgrade").out.endswith("given their rights: wakelog_reader\n")
    assert wakelog("db", "status", "--json").json["roles_without_rights"] == []
    assert wakelog("db", "upgrade", "--json").json["roles_given_their_rights"] == []


def test_the_sql_makes_the_same(bare: Wakelog, empty_database: str) -> None:
    text = bare("db", "sql").out
    assert bare("db", "sql", "--json").json == {"sql": text}
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(text.encode())
    assert bare("db", "status", "--database", empty_database).code == 0


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_url_hides_the_password_unless_psql_wants_it(bare: Wakelog, scheme: str) -> None:
    given = ["--database", f"{scheme}://me:secret@127.0.0.1/x"]
    assert "secret" not in bare("db", "url", *given).out
    shown = bare("db", "url", "--psql", *given).out.strip()
    assert "me:secret@127.0.0.1/x" in shown
    assert "+" not in shown
    assert bare("db", "url", "--json", "--psql", *given).json == {"url": shown}


def test_rebase_adds_what_was_never_sequenced(wakelog: Wakelog, connection: Connection) -> None:
    connection.execute("insert into wakelog.events (type) values ('push')")
    assert wakelog("db", "rebase").out.startswith("Rebased: 1 event new")


def test_an_append_to_a_log_that_waits_for_its_rebase_is_an_append(
    wakelog: Wakelog, connection: Connection
) -> None:
    connection.execute("update wakelog.sequencer set system_identifier = 1")
    appended = wakelog("append", "push")
    assert appended.code == 0
    assert "wakelog db rebase" in appended.err
    assert wakelog("db", "rebase").out.startswith("Rebased: 1 event new")


def test_old_history_goes_by_whole_days(wakelog: Wakelog, connection: Connection) -> None:
    connection.execute("create table wakelog.history_2020_01_01 (like wakelog.history)")
    connection.execute(
        """alter table wakelog.history attach partition wakelog.history_2020_01_01
           for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00')"""
    )
    before = ["db", "drop-history", "--yes", "--before"]
    assert "nothing was dropped" in wakelog(*before, "2020-01-01T12:00Z").out
    assert wakelog(*before, "30d", "--json").json == {"days": ["2020-01-01"]}
    assert wakelog(*before, "soon").code == 2
