"""wakelog timeline: events under their causes, deliveries under events, answers under deliveries."""

from typing import Any

import psycopg
from tests.cli.command import Wakelog

Connection = psycopg.Connection[Any]


def test_by_the_id_of_any_event_or_by_the_correlation(wakelog: Wakelog, dead_letter: Connection) -> None:
    rows = dead_letter.execute(
        "select id::text, correlation_id from wakelog.log_events order by position"
    ).fetchall()
    (push, correlation), failed = rows[0], rows[3][0]
    whole = wakelog("timeline", push, "--json").json
    assert whole["correlation_id"] == correlation
    assert [(row["what"], row["name"]) for row in whole["timeline"]] == [
        ("event", "push"),
        ("delivery", "tests"),
        ("event", "tests.failed"),
    ]
    assert wakelog("timeline", failed, "--json").json == whole
    assert wakelog("timeline", correlation, "--json").json == whole


def test_as_a_tree(wakelog: Wakelog, dead_letter: Connection) -> None:
    (push,) = dead_letter.execute(
        "select id::text from wakelog.log_events where position = 1"
    ).fetchone() or ("",)
    tree = wakelog("timeline", push).out.splitlines()
    assert tree[0] == f"workflow {push}"
    for line, word, indent in zip(
        tree[1:], ["push", "→ tests: dead", "attempt 1", "tests.failed"], [4, 8, 12, 12], strict=True
    ):
        assert line.index(word) == indent


def test_a_circle_of_causes_is_drawn_once(wakelog: Wakelog, connection: Connection) -> None:
    connection.execute(
        """with ids as (select wakelog.uuid7() as a, wakelog.uuid7() as b)
           insert into wakelog.events (id, type, causation_id, correlation_id)
           select a, 'a', b, 'circle' from ids union all select b, 'b', a, 'circle' from ids"""
    )
    assert len(wakelog("timeline", "circle").out.splitlines()) == 3


def test_an_unknown_workflow_is_4(wakelog: Wakelog) -> None:
    ended = wakelog("timeline", "nothing")
    assert ended.code == 4
    assert ended.err.rstrip().endswith("wakelog tail --json")
