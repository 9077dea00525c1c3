"""wakelog workflow list | show | at | fork: for people and as JSON, by any of a workflow's names."""

from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

Connection = psycopg.Connection[Any]


@pytest.fixture
def push(dead_letter: Connection) -> str:
    """The id of the event, and so the name of the workflow, that "tests" has given up."""
    row = dead_letter.execute("select id::text from wakelog.log_events where position = 1").fetchone()
    assert row is not None
    return row[0]


def test_a_list_of_them(wakelog: Wakelog, push: str) -> None:
    listed = wakelog("workflow", "list", "--json").json
    assert [(one["state"], one["first_type"], one["events"]) for one in listed] == [
        ("failed", "push", 2), ("done", "order.paid", 1), ("waiting", "push", 1),
    ]  # fmt: skip
    assert listed[0]["correlation_id"] == push
    failed = wakelog("workflow", "list", "--state", "failed", "--type", "tests.*", "--since", "1h", "-n", "5")
    assert failed.out.splitlines()[1].startswith(push)
    assert wakelog("workflow", "list", "--type", "nothing").out.startswith("There are no such workflows")


def test_one_as_a_tree_and_as_json(wakelog: Wakelog, push: str, dead_letter: Connection) -> None:
    tree = wakelog("workflow", "show", push).out.splitlines()
    assert tree[0] == f"workflow {push}"
    for line, word, indent in zip(
        tree[1:5], ["push", "→ tests: failed (do_not_retry)", "attempt 1", "tests.failed"], [4, 8, 12, 12],
        strict=True,
    ):  # fmt: skip
        assert line.index(word) == indent
    assert tree[5].startswith("2 events, 1 failed, ")
    shown = wakelog("workflow", "show", push, "--json").json
    assert (shown["correlation_id"], shown["forked_from"], shown["forks"]) == (push, None, [])
    assert shown["events"][0]["work"][0]["error"] == "boom [not bold]"
    by_its_answer = shown["events"][1]["id"]
    assert wakelog("workflow", "show", by_its_answer, "--json").json == shown


def test_as_it_was(wakelog: Wakelog, push: str) -> None:
    then = wakelog("workflow", "at", push, "--position", "1", "--json").json
    assert [(event["type"], [work["state"] for work in event["work"]]) for event in then["events"]] == [
        ("push", [])
    ]
    assert wakelog("workflow", "at", push, "--position", "2").out.startswith(
        f"workflow {push} when the log had reached position 2"
    )
    now = wakelog("workflow", "at", push, "--at", "0s", "--json").json
    assert [event["type"] for event in now["events"]] == ["push", "tests.failed"]


def test_a_fork_from_a_terminal(wakelog: Wakelog, push: str, dead_letter: Connection) -> None:
    made = wakelog(
        "workflow", "fork", push, "--from", push, "--set", "branch=next", "--set", "by=1", "--json"
    )
    fork = made.json
    assert (fork["parent"], fork["position"], fork["changes"]) == (push, 1, {"branch": "next", "by": 1})
    assert [(copy["type"], copy["original"]) for copy in fork["delivered"]] == [("push", push)]
    shown = wakelog("workflow", "show", fork["correlation_id"], "--json").json
    assert shown["forked_from"]["parent"] == push
    assert shown["events"][0]["payload"] == {"branch": "next", "by": 1}
    assert shown["events"][0]["work"][0]["state"] == "waiting"
    parent = wakelog("workflow", "show", push)
    assert parent.out.splitlines()[-1].startswith(
        f"forked as {fork['correlation_id']} at position 1, with {{"
    )
    told = wakelog("workflow", "fork", push, "--from", "1", "--agents", "tests").out
    assert "push anew, to tests" in told


REFUSED = [
    (["show", "nothing"], 4, "see: wakelog workflow list"),
    (["at", "PUSH"], 2, "expected either --at or --position, found neither"),
    (["at", "PUSH", "--position", "99"], 2, "expected a position from 1 to 4, found 99"),
    (["fork", "nothing", "--from", "1"], 4, 'there is no workflow "nothing"'),
    (["fork", "PUSH", "--from", "soon"], 2, "expected the id of an event, a position such as 812"),
    (["fork", "PUSH", "--from", "1", "--set", "branch"], 2, "expected a path and a value"),
    (["fork", "PUSH", "--from", "1", "--set", "a.b=1"], 2, 'expected a place "a.b" in the payload'),
    (["fork", "PUSH", "--from", "1", "--agents", "nobody"], 4, 'there is no agent "nobody"'),
    (["fork", "PUSH", "--from", "0s"], 2, "nothing of the workflow"),
    (["fork", "PUSH", "--from", "30d"], 2, "began at position 1, after the point"),
]


def test_what_cannot_be_done_is_said(wakelog: Wakelog, push: str, dead_letter: Connection) -> None:
    for arguments, code, said in REFUSED:
        ended = wakelog("workflow", *[push if argument == "PUSH" else argument for argument in arguments])
        assert (ended.code, said in ended.err) == (code, True), (arguments, ended.err)
        assert "wakelog " in ended.err.rsplit(";", 1)[-1]
    assert dead_letter.execute("select count(*) from wakelog.forks").fetchone() == (0,)
