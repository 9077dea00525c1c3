"""Every command has --json, an example in its help, and its place in docs/commands.md."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wakelog_cli.failures import ExitCode
from wakelog_cli.main import wakelog

DOCS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def commands(command: click.Command = wakelog, path: str = "wakelog") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")
    else:
        yield path, command


COMMANDS = list(commands())


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
class TestEveryCommand:
    def test_it_has_json(self, path: str, command: click.Command) -> None:
        assert "--json" in [name for option in command.params for name in option.opts]

    def test_its_help_has_an_example_that_calls_it(self, path: str, command: click.Command) -> None:
        _, _, example = (command.help or "").partition("Example")
        assert path in example

    def test_it_is_in_the_docs_with_every_option(self, path: str, command: click.Command) -> None:
        assert f"`{path}" in DOCS
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for name in parameter.opts:
                    assert f"`{name}" in DOCS, f"{name} of {path} is not in docs/commands.md"


@pytest.mark.parametrize(
    "path",
    [path for path, _ in COMMANDS]
    + ["wakelog", "wakelog agents", "wakelog dead", "wakelog workflow", "wakelog seal", "wakelog types"],
)
def test_its_help_can_be_shown(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert wakelog.main([*path.split()[1:], "--help"], "wakelog", standalone_mode=False) == 0
    assert f"Usage: {path}" in capsys.readouterr().out


@pytest.mark.parametrize("code", ExitCode)
def test_the_exit_codes_are_in_the_docs(code: ExitCode) -> None:
    assert f"| {code.value} |" in DOCS


def test_help_needs_nothing_that_takes_long_to_import() -> None:
    script = (
        "import sys\n"
        "from wakelog_cli.main import run\n"
        "run(['--help'])\n"
        "print('slow:', sorted({'psycopg', 'sqlalchemy', 'alembic', 'pydantic'} & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith("slow: []")
