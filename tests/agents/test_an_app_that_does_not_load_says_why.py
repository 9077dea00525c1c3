import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wakelog.agents.load import load_app
from wakelog.errors import BadInput

AN_AGENT = """
@{app}.agent("{agent}", on="push")
def handler(event, ctx): ...
"""
AN_APP = "from wakelog.agents.app import Wakelog\napp = Wakelog('ci')\n" + AN_AGENT.format(
    app="app", agent="tests"
)
ANOTHER = "other = Wakelog('other')\n" + AN_AGENT.format(app="other", agent="docs")


@pytest.fixture(autouse=True)
def _an_import_system_to_oneself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def write(name: str, text: str) -> None:
    place = Path(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.mark.parametrize(
    "target", ["flow_app.py", "flow_app.py:app", "./flow_app.py:app", "flow_app:app", "flow_app"]
)
def test_a_file_or_a_module_with_its_only_application(target: str) -> None:
    write("flow_app.py", AN_APP)
    assert list(load_app(target).agents) == ["tests"]


def test_a_file_may_import_its_neighbours() -> None:
    write("deep/neighbour.py", "NAME = 'from.next.door'\n")
    write("deep/flow_app.py", "import neighbour\n" + AN_APP.replace('"tests"', "neighbour.NAME"))
    assert list(load_app("deep/flow_app.py").agents) == ["from.next.door"]


def test_the_same_application_under_two_names_is_one() -> None:
    write("flow_app.py", AN_APP + "again = app\n")
    assert load_app("flow_app.py").name == "ci"


def test_one_of_two_must_be_named() -> None:
    write("flow_app.py", AN_APP + ANOTHER)
    with pytest.raises(
        BadInput, match=r'expected one Wakelog in "flow_app\.py", found: app, other'
    ) as refused:
        load_app("flow_app.py")
    assert refused.value.hint == "Name it: flow_app.py:NAME"
    assert list(load_app("flow_app.py:other").agents) == ["docs"]


@pytest.mark.parametrize(
    ("target", "text", "sentence"),
    [
        ("gone.py", None, 'there is no file "gone.py"'),
        ("no_such_module:app", None, 'there is no module "no_such_module" here or on the Python path'),
        ("flow_app.no_such:app", AN_APP, 'there is no module "flow_app.no_such"'),
        ("flow_app.py:typo", AN_APP, '"flow_app.py" has no Wakelog named "typo"; it has: app'),
        ("flow_app:typo", "x = 1\n", '"flow_app" has no Wakelog named "typo"; it has: none'),
        ("flow_app.py", "x = 1\n", 'expected one Wakelog in "flow_app.py", found: none'),
        (
            "flow_app.py",
            AN_APP.partition("@")[0],
            'application "ci" in "flow_app.py" declares no agents and no projections',
        ),
        ("flow_app.py", "x = 1\ny = 1 / 0\n", "does not import: ZeroDivisionError: division by zero"),
        ("flow_app", "import not_installed_here\n", "does not import: ModuleNotFoundError"),
        ("flow_app.py", "def broken(:\n", "does not import: SyntaxError"),
        ("flow_app.py", AN_APP.replace('"push"', '"pu sh"'), 'agent "tests": expected type patterns'),
        ("", None, "expected module:app or file.py, found nothing"),
    ],
)
def test_each_failure_is_one_clear_sentence(target: str, text: str | None, sentence: str) -> None:
    if text is not None:
        write("flow_app.py", text)
    with pytest.raises(BadInput) as refused:
        load_app(target)
    assert sentence in str(refused.value).splitlines()[0]


def test_a_failing_import_names_the_line() -> None:
    write("flow_app.py", "x = 1\ny = 1 / 0\n")
    with pytest.raises(BadInput, match=r"flow_app\.py:2\)"):
        load_app("flow_app.py")
    with pytest.raises(BadInput, match=r"flow_app\.py:2\)"):
        load_app("flow_app")
