"""wakelog append --private, tail and forget: what people type, and what they see."""

import json
from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

Connection = psycopg.Connection[Any]
ADA = '{"name": "Ada", "plan": "pro"}'


@pytest.fixture
def ada(wakelog: Wakelog) -> Wakelog:
    assert wakelog("append", "customer.joined", ADA, "--private", "name=customer-17").code == 0
    return wakelog


def payload(wakelog: Wakelog) -> Any:
    return wakelog("tail", "--json").lines[-1]["payload"]


def test_a_private_value_is_encrypted_and_shown_until_it_is_forgotten(
    ada: Wakelog, connection: Connection
) -> None:
    stored = connection.execute("select payload::text from wakelog.events").fetchone()
    assert stored is not None
    assert '"Ada"' not in stored[0]
    assert payload(ada) == {"name": "Ada", "plan": "pro"}
    ended = ada("forget", "customer-17", "--yes")
    assert ended.code == 0
    assert "Forgot 1 subject: customer-17." in ended.out
    assert "Backups and archived WAL" in ended.out
    assert payload(ada) == {"name": {"$forgotten": True}, "plan": "pro"}
    assert '"$forgotten"' in ada("tail").out


def test_forgetting_asks_and_says_what_it_did(ada: Wakelog, connection: Connection) -> None:
    refused = ada("forget", "customer-17")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    unknown = ada("forget", "customer-17", "customer-18", "--yes")
    assert (unknown.code, "select * from wakelog.subjects" in unknown.err) == (4, True)
    assert connection.execute("select count(*) from wakelog.subject_keys").fetchone() == (1,)  # all or none
    done = ada("forget", "customer-17", "--yes", "--json", "--vacuum")
    assert done.json == {"forgotten": ["customer-17"], "forgotten_before": [], "vacuumed": True}
    again = ada("forget", "customer-17", "--yes", "--json")
    assert again.json == {"forgotten": [], "forgotten_before": ["customer-17"], "vacuumed": False}


def test_nothing_more_is_appended_about_it(ada: Wakelog) -> None:
    ada("forget", "customer-17", "--yes")
    refused = ada("append", "customer.joined", ADA, "--private", "name=customer-17")
    assert (refused.code, refused.out) == (1, "")
    assert 'subject "customer-17" was forgotten at' in refused.err


def test_after_a_vacuum_no_byte_is_left_in_the_tables_file(ada: Wakelog, connection: Connection) -> None:
    size = "select pg_relation_size('wakelog.subject_keys') > 0"
    ada("forget", "customer-17", "--yes")
    assert connection.execute(size).fetchone() == (True,)
    ada("forget", "customer-17", "--yes", "--vacuum")
    assert connection.execute(size).fetchone() == (False,)


@pytest.mark.parametrize(
    ("private", "said"),
    [
        (["nmae=c"], "found no 'nmae' there"),
        (["name"], "such as email=customer-17"),
        (["=c", "name=c"], "expected either all of the payload or places"),
    ],
)
def test_what_cannot_be_private_is_refused(wakelog: Wakelog, private: list[str], said: str) -> None:
    options = [word for each in private for word in ("--private", each)]
    ended = wakelog("append", "customer.joined", ADA, *options)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_all_of_a_payload_and_files_of_events(wakelog: Wakelog, connection: Connection) -> None:
    assert wakelog("append", "note", ADA, "--private", "=customer-17").code == 0
    line = json.dumps({"type": "note", "payload": {"name": "Ada"}, "private": {"name": "customer-18"}})
    assert wakelog("append", "--many", "-", stdin=line.encode()).code == 0
    assert connection.execute(
        "select count(*) from wakelog.events where payload::text ~ 'Ada'"
    ).fetchone() == (0,)
    assert [line["payload"] for line in wakelog("tail", "--json").lines] == [json.loads(ADA), {"name": "Ada"}]
