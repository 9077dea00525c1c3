"""wakelog projection show --between, and wakelog projection why."""

from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

from wakelog import append

DECLARE = """
    select wakelog.register_projection('totals', jsonb_build_object(
        'tables', array['create table totals (who text primary key, paid int not null)'],
        'statements', array[
            $$insert into totals select payload ->> 'who', sum((payload ->> 'paid')::int) from new_events group by 1
              on conflict (who) do update set paid = totals.paid + excluded.paid$$]))
"""
LEFT = "select count(*) from wakelog.projection_builds where state <> 'serving'"


@pytest.fixture
def log(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    cause = append(connection, "paid", {"who": "ada", "paid": 1})
    for who, paid in (("bob", 2), ("ada", 3), ("cyd", 4)):
        append(connection, "paid", {"who": who, "paid": paid}, causation_id=cause.id)
    connection.execute("select wakelog.sequence()")
    connection.execute(DECLARE)
    connection.execute("call wakelog.project('totals')")
    return connection


def test_between(wakelog: Wakelog, log: psycopg.Connection[Any]) -> None:
    found = wakelog("projection", "show", "totals", "--between", "1", "now", "--json").json
    assert (found["since"], found["position"]) == (1, 4)
    assert [(one["was"], one["is"], one["columns"]) for one in found["changes"]] == [
        ({"who": "ada", "paid": 1}, {"who": "ada", "paid": 4}, ["paid"]),
        (None, {"who": "bob", "paid": 2}, None),
        (None, {"who": "cyd", "paid": 4}, None),
    ]
    said = wakelog("projection", "show", "totals", "--between", "1", "3").out
    assert '~ who="ada"  paid: 1 -> 4' in said
    assert '+ who="bob" paid=2' in said
    assert "Nothing is otherwise." in wakelog("projection", "show", "totals", "--between", "2h", "1h").out
    assert log.execute(LEFT).fetchone() == (0,)


def test_why(wakelog: Wakelog, log: psycopg.Connection[Any]) -> None:
    found = wakelog("projection", "why", "totals", "totals", "who=ada", "--json").json
    assert [(one["position"], one["was"] and one["was"]["paid"], one["is"]["paid"]) for one in found["events"]] == [
        (1, None, 1), (3, 1, 4),
    ]  # fmt: skip
    assert [cause["position"] for cause in found["events"][1]["causes"]] == [1]
    said = wakelog("projection", "why", "totals", "totals", "who=ada", "--position", "3").out
    assert said.startswith("totals with who=ada, at position 3:\n")
    assert said.endswith("\n2 events wrote it.\n")
    assert "paid: 1 -> 4" in said
    assert "because of paid at 1" in said
    assert log.execute(LEFT).fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["why", "totals", "totals", "who=eve"],
            4,
            "no event up to position 4 wrote a row of totals with who=eve",
        ),
        (
            ["why", "totals", "totals", "who"],
            2,
            "expected a column and its value, such as id=42, found 'who'",
        ),
        (["why", "totals", "sums", "who=ada"], 2, 'expected one of the tables totals, found "sums"'),
        (["why", "totals", "totals", "paid=much"], 2, "paid: expected a value of type integer, found 'much'"),
        (["why", "nothing", "totals", "who=ada"], 4, 'there is no projection "nothing"'),
        (
            ["show", "totals", "--between", "3", "1"],
            2,
            "expected the earlier moment first, found positions 3 and 1",
        ),
        (["show", "totals", "--between", "1", "99"], 2, "expected a position from 0 to 4, found 99"),
        (["show", "totals", "--between", "1", "2", "--at", "1h"], 2, "expected --between alone"),
    ],
)
def test_what_cannot_be_asked_says_so_and_leaves_nothing(
    wakelog: Wakelog, log: psycopg.Connection[Any], arguments: list[str], code: int, sentence: str
) -> None:
    ended = wakelog("projection", *arguments)
    assert (ended.code, sentence in ended.err) == (code, True), ended
    assert log.execute(LEFT).fetchone() == (0,)
