"""wakelog stream show: the events of a stream, the state they come to, then and now, and what changed between."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

from wakelog import append

APP = """
from wakelog import Wakelog

app = Wakelog("shop")

@app.projection("cart", on="item.#", mode="live", initial=dict, snapshots=2)
def cart(state, event):
    item = event.payload["item"]
    change = 1 if event.type == "item.added" else -1
    return {**state, item: state.get(item, 0) + change}

@app.projection("count", on="#", mode="live", initial=int)
def count(state, event):
    return state + 1
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    file = tmp_path / "shop.py"
    file.write_text(APP)
    return str(file)


@pytest.fixture
def log(connection: psycopg.Connection[Any]) -> None:
    """A stream of four events at the odd positions up to 7."""
    for type_, item in (("added", "nut"), ("added", "nut"), ("removed", "nut"), ("added", "bolt")):
        append(connection, f"item.{type_}", {"item": item}, stream="cart-1")
        append(connection, "other", stream="cart-2")
    connection.execute("select wakelog.sequence()")


def test_now(wakelog: Wakelog, log: None, app: str) -> None:
    found = wakelog("stream", "show", "cart-1", "--app", app, "--json").json
    assert (found["position"], found["version"]) == (8, 4)
    assert [(event["position"], event["version"]) for event in found["events"]] == [
        (1, 1),
        (3, 2),
        (5, 3),
        (7, 4),
    ]
    assert found["states"] == {"cart": {"nut": 1, "bolt": 1}, "count": 4}
    said = wakelog("stream", "show", "cart-1", "--app", app).out
    assert "cart-1, at position 8: version 4" in said
    assert 'cart: {"nut": 1, "bolt": 1}' in said


def test_then(wakelog: Wakelog, log: None, app: str) -> None:
    then = wakelog(
        "stream", "show", "cart-1", "--position", "4", "--app", app, "--projection", "cart", "--json"
    ).json
    assert (then["position"], then["version"], then["states"]) == (4, 2, {"cart": {"nut": 2}})
    before = wakelog("stream", "show", "cart-1", "--at", "1h", "--app", app, "--json").json
    assert (before["version"], before["events"], before["states"]) == (0, [], {"cart": {}, "count": 0})


def test_what_changed_between(wakelog: Wakelog, log: None, app: str) -> None:
    found = wakelog("stream", "show", "cart-1", "--between", "4", "now", "--app", app, "--json").json
    assert [event["position"] for event in found["events"]] == [5, 7]
    assert found["differences"] == {
        "cart": [{"path": "nut", "was": 2, "is": 1}, {"path": "bolt", "was": None, "is": 1}],
        "count": [{"path": "", "was": 2, "is": 4}],
    }
    said = wakelog("stream", "show", "cart-1", "--between", "4", "7", "--app", app).out
    assert "cart: 2 differences" in said
    assert "  nut: 2 -> 1" in said
    assert "count: the same" in wakelog("stream", "show", "cart-1", "--between", "7", "8", "--app", app).out


def test_only_the_last_are_shown(wakelog: Wakelog, log: None) -> None:
    found = wakelog("stream", "show", "cart-1", "-n", "2", "--json").json
    assert [event["version"] for event in found["events"]] == [3, 4]
    assert "(the last 2; more with --limit)" in wakelog("stream", "show", "cart-1", "-n", "2").out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nobody"], 4, 'there is no stream "nobody"'),
        (["cart-1", "--projection", "cart"], 2, "expected --app together with --projection"),
        (["cart-1", "--position", "1", "--at", "1h"], 2, "expected one of --position, --at and --between"),
        (["cart-1", "--between", "5", "4"], 2, "expected the earlier moment first, found positions 5 and 4"),
        (["cart-1", "--app", "APP", "--projection", "basket"], 4, 'declares no live projection "basket"'),
    ],
)
def test_what_cannot_be_asked_says_so(
    wakelog: Wakelog, log: None, app: str, arguments: list[str], code: int, sentence: str
) -> None:
    ended = wakelog("stream", "show", *[app if each == "APP" else each for each in arguments])
    assert ended.code == code
    assert sentence in ended.err
