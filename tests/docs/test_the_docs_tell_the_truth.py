"""The README and the pages under docs/ say what is so: links lead somewhere, the example runs as it stands."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest

from wakelog import Wakelog
from wakelog_cli.main import wakelog

ROOT = Path(__file__).parents[2]
WAKELOG = str(Path(sys.executable).with_name("wakelog"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")),
         ROOT / "examples" / "README.md", ROOT / "migrations" / "README.md"]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            place = page.parent / target
            assert place.exists() or list(place.parent.glob(f"{place.name}*")), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_a_page_names_is_there(page: Path) -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"test_\w+\.py", page.read_text())) <= there


def command_of(words: list[str]) -> click.Command | None:
    """The command that a line beginning with `wakelog` means; None where there is none."""
    found: click.Command | None = wakelog
    for word in words:
        if not isinstance(found, click.Group):
            return found
        found = found.commands.get(word)
    return found


def test_every_wakelog_command_a_page_types_exists() -> None:
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.S):
            for words in re.findall(r"^wakelog ((?:[a-z-]+ ?)+)", block, re.M):
                assert command_of(words.split()) is not None, f"{page.name}: wakelog {words}"


def test_every_option_a_page_types_exists() -> None:
    wrong: list[str] = []
    for page in PAGES:
        text = page.read_text()
        typed = re.findall(r"`(wakelog [a-z][^`]*)`", text)
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
            typed += re.findall(r"^wakelog .*", block, re.M)
        for line in typed:
            words = line.split("#")[0].split()[1:]
            options = [word.split("=")[0] for word in words if re.match(r"--[a-z]", word)]
            if not options:
                continue
            command = command_of(words)
            there = {name for known in command.params for name in known.opts} if command else set[str]()
            wrong += [
                f"{page.name}: {line}" for option in options if option not in {*there, "--help", "--version"}
            ]
    assert wrong == []


def test_the_readmes_agent_runs_as_it_stands(database: str, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    (statements,) = re.findall(r"```sql\n(.*?)```", readme, re.S)
    (tmp_path / "shop.py").write_text(code)
    worker = subprocess.Popen(
        [WAKELOG, "worker", "shop.py", "--database", database],
        cwd=tmp_path, env=os.environ | {"NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with psycopg.connect(database, autocommit=True) as connection:
            wait = "select count(*) from wakelog.workers where alive and asleep"
            while connection.execute(wait).fetchone() == (0,):
                assert worker.poll() is None
            for statement in statements.split(";"):
                if statement.strip():
                    connection.execute(statement)  # pyright: ignore
            answered = "select payload from wakelog.events where type = 'welcome.completed'"
            while (row := connection.execute(answered).fetchone()) is None:
                assert worker.poll() is None
            assert row == ({"text": "Hello, Ada!"},)
            assert connection.execute("select name from greeted").fetchall() == [("Ada",)]
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


@pytest.mark.parametrize(
    "page",
    [*sorted((ROOT / "docs" / "delivery").glob("*.md")), ROOT / "docs" / "workflows.md"],
    ids=lambda page: str(page.name),
)
def test_the_program_that_ends_a_page_is_one(page: Path, tmp_path: Path) -> None:
    *_, program = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    (tmp_path / "program.py").write_text(program)
    app = runpy.run_path(str(tmp_path / "program.py"))["app"]
    assert isinstance(app, Wakelog)
    assert app.agents
