"""The demo in a process of its own, and what is left of it."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "from wakelog_cli.main import main; main()", "demo"]


def start_demo(folder: Path, *arguments: str, database: str | None = None) -> "subprocess.Popen[str]":
    """The demo as a process, at the head of a group of its own, as a terminal has it."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    # TMPDIR, so that what is left behind can be seen; the ceiling, so that no repository above is taken.
    environment |= {"TMPDIR": str(folder), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    if database is not None:
        environment["DATABASE_URL"] = database
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def left_behind(folder: Path) -> list[str]:
    """Processes that work in the folder, or were started for it."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in told:
                found.append(told[:200].decode(errors="replace"))
    return found
