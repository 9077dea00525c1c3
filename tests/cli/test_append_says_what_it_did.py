"""wakelog append: from the command line, a file or stdin, one or many; once per idempotency key."""

import json
from pathlib import Path
from typing import Any

import psycopg
from tests.cli.command import Wakelog

Connection = psycopg.Connection[Any]


def test_an_event_gets_its_position(wakelog: Wakelog) -> None:
    assert wakelog("append", "push", '{"branch": "main"}').out.startswith("appended push at position 1, id ")
    second = wakelog("append", "push", "[1, 2]", "--source", "github/acme", "--json").json
    assert (second["position"], second["payload"], second["source"]) == (2, [1, 2], "github/acme")
    assert second["appended"] is True


def test_all_that_may_be_said_of_an_event_is_said(wakelog: Wakelog, connection: Connection) -> None:
    cause = wakelog("append", "order.placed", "--json").json["id"]
    arguments = ["--stream", "order-17", "--expected-version", "0", "--key", "k", "--cause", cause]
    more = ["--metadata", '{"tenant": "acme"}', "--correlation", "workflow-1"]
    assert "version 1 of order-17" in wakelog("append", "order.paid", *arguments, *more).out
    row = connection.execute(
        """select stream, version, idempotency_key, causation_id::text, metadata, correlation_id
           from wakelog.events where type = 'order.paid'"""
    ).fetchone()
    assert row == ("order-17", 1, "k", cause, {"tenant": "acme"}, "workflow-1")


def test_a_key_makes_it_once(wakelog: Wakelog, connection: Connection) -> None:
    first = wakelog("append", "push", '{"n": 1}', "--key", "k", "--json").json
    assert wakelog("append", "push", '{"n": 2}', "--key", "k").out.startswith(
        "already there: push at position 1"
    )
    again = wakelog("append", "push", '{"n": 2}', "--key", "k", "--json").json
    assert again == {**first, "appended": False}
    assert connection.execute("select count(*) from wakelog.events").fetchone() == (1,)


def test_the_payload_may_come_from_a_file_or_stdin(wakelog: Wakelog, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"amount": 12.5, "who": "Zoë"}')
    assert wakelog("append", "paid", "@order.json", "--json").json["payload"] == {
        "amount": 12.5,
        "who": "Zoë",
    }
    assert wakelog("append", "paid", "-", "--json", stdin=b'"word"').json["payload"] == "word"


def test_many_go_in_at_once_and_in_order(wakelog: Wakelog, tmp_path: Path, connection: Connection) -> None:
    lines = [json.dumps({"type": "n", "payload": number}) for number in range(2000)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines) + "\n\n")
    assert wakelog("append", "--many", "many.jsonl").out.startswith("appended 2,000 events in ")
    assert wakelog("append", "--many", "-", "--json", stdin=b'{"type": "n"}\n').json["appended"] == 1
    found = connection.execute(
        "select array_agg(payload order by position) from wakelog.log_events"
    ).fetchone()
    assert found == ([*range(2000), {}],)


def test_a_writer_may_append_and_need_not_read(
    wakelog: Wakelog, connection: Connection, database: str, empty_database: str
) -> None:
    connection.execute("drop role if exists cli_writer")
    connection.execute("create role cli_writer login in role wakelog_writer")
    try:
        as_writer = database.replace("postgres@", "cli_writer@")
        ended = wakelog("append", "push", "--database", as_writer)
        assert (ended.code, ended.out[:13]) == (0, "appended push")
        refused = wakelog("lag", "--database", as_writer)
        assert refused.code == 1
        assert "permission denied" in refused.err
        assert "wakelog_reader" in refused.err
    finally:
        connection.execute("drop role cli_writer")
