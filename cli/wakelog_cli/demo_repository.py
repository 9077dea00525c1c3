"""Which commits the demo pushes: those of the repository it stands in, of a named one, or of the sample."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.output import shortened

MOST_FILES = 5_000
"""In a larger tree the checks would take longer than anybody watches."""

_FIELDS = "%H%x00%P%x00%an%x00%aI%x00%s"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit, as a push tells it."""

    sha: str
    parent: str | None
    author: str
    authored_at: str
    subject: str
    files: int

    @property
    def short(self) -> str:
        return self.sha[:7]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, and its latest commits, oldest first."""

    path: Path
    name: str
    commits: list[Commit]
    note: str
    """Why it is this one, for people."""


def examples_folder() -> Path:
    """Where the examples are, in a wheel or in a checkout."""
    import wakelog

    package = Path(wakelog.__file__).resolve().parent
    packed = package / "_examples"
    return packed if packed.is_dir() else package.parents[1] / "examples"


def choose(named: Path | None, commits: int, scratch: Path) -> Repository:
    """The repository to take commits from. The sample is unpacked in `scratch`, where there is no other to be had.

    Raises `Failure` when git or tar is missing, and when a named one has no commits or too many files.
    """
    for program in ("git", "tar"):
        if shutil.which(program) is None:
            raise Failure(
                f"expected {program}, with which the demo checks out commits, found none; install it "
                f"(Debian, Ubuntu: apt-get install {program})",
                next_command="then type: wakelog demo",
            )
    if named is not None:
        return _named(named, commits)
    here, reason = _found_at(Path.cwd(), commits)
    return here or sample(commits, scratch, reason)


def _named(path: Path, commits: int) -> Repository:
    found, reason = _found_at(path, commits)
    if found is None:
        raise Failure(
            f"expected a git repository with commits in {path}, found {reason}",
            ExitCode.BAD_INPUT,
            next_command="for the bundled sample, leave --repo out and stand outside any: cd /tmp && wakelog demo",
        )
    return found


def _found_at(path: Path, commits: int) -> tuple[Repository | None, str]:
    """The repository around a folder; where it will not do, the reason."""
    if not path.is_dir():
        return None, "no such folder"
    folder = _git(path, "rev-parse", "--show-toplevel")
    if folder.returncode != 0 or not folder.stdout.strip():
        folder = _git(path, "rev-parse", "--absolute-git-dir")
    if folder.returncode != 0:
        refused = "dubious ownership" in folder.stderr
        return None, "one of somebody else's, which git refuses" if refused else "no git repository"
    root = Path(folder.stdout.rstrip("\n"))
    latest = _latest(root, commits)
    if not latest:
        return None, "one that has no commits"
    if max(commit.files for commit in latest) > MOST_FILES:
        return None, f"one of more than {MOST_FILES:,} files"
    return Repository(
        root, root.name.removesuffix(".git") or root.parent.name, latest, f"the latest commits of {root}"
    ), ""


def sample(commits: int, scratch: Path, reason: str) -> Repository:
    """The bundled sample, unpacked in `scratch`. Raises `Failure` where git cannot."""
    bundle = examples_folder() / "sample_repository.bundle"
    folder = scratch / "tally"
    cloned = _git(scratch, "clone", "--quiet", "--bare", str(bundle), str(folder))
    if cloned.returncode != 0:
        raise Failure(
            f"expected git to unpack the sample repository {bundle}, but: {shortened(cloned.stderr, 300)}",
            next_command="name another repository: wakelog demo --repo PATH",
        )
    note = f"the bundled sample repository (looked for one here, found {reason})"
    return Repository(folder, "tally", _latest(folder, commits), note)


def _latest(root: Path, commits: int) -> list[Commit]:
    listed = _git(root, "log", "--first-parent", f"--max-count={commits}", f"--format={_FIELDS}")
    if listed.returncode != 0:
        return []
    found = [line.split("\0", 4) for line in listed.stdout.splitlines() if line.count("\0") >= 4]
    return [
        Commit(sha, parents.partition(" ")[0] or None, author, at, shortened(subject, 200), _files(root, sha))
        for sha, parents, author, at, subject in reversed(found)
    ]


def _files(root: Path, sha: str) -> int:
    return len(_git(root, "ls-tree", "-r", "--name-only", sha).stdout.splitlines())


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # What a hook or a shell may have set points at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
