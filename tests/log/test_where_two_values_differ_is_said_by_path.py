"""Of two JSON values, the places that differ are named, and what is in each; low enough in the house for everybody."""

import subprocess
import sys
from typing import Any

import pytest

from wakelog import FORGOTTEN
from wakelog.log.paths import by_path


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, [("a.b.1", 2, 3), ("a.b.2", None, 4)]),
        ({"a": 1, "b": 2}, {"b": 2, "c": 3}, [("a", 1, None), ("c", None, 3)]),
        ([1], {"0": 1}, [("", [1], {"0": 1})]),
        ({"a": 1}, {"a": True}, [("a", 1, True)]),
        ({"a": FORGOTTEN}, {"a": "who knows"}, []),
        ({"a": FORGOTTEN}, {}, [("a", FORGOTTEN, None)]),
        ({"a": {"$private": {"key": 1, "box": "AAAA"}}}, {"a": "who knows"}, []),
    ],
)
def test_by_path(old: Any, new: Any, found: list[tuple[str, Any, Any]]) -> None:
    assert list(by_path(old, new)) == found


def test_a_stream_is_compared_without_the_room_of_workflows() -> None:
    asked = (
        "import sys; from wakelog_cli.stream import _differences;"
        "assert _differences({'cart': {'a': 1}}, {'cart': {'a': 2}}) == {'cart': [{'path': 'a', 'was': 1, 'is': 2}]};"
        "sys.exit(any(name.startswith('wakelog.workflows') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
