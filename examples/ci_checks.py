"""What the checks of ci_pipeline.py do with the files of one commit; nothing here knows about events."""

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Report = dict[str, Any]

_SECRETS = {
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "Stripe key": r"\b[sr]k_live_[A-Za-z0-9]{16,}\b",
}
_SECRET = re.compile("|".join(f"(?P<s{n}>{pattern})" for n, pattern in enumerate(_SECRETS.values())))
_NAMED_LIKE_A_SECRET = re.compile(
    r"(?i)[a-z0-9_.-]*(?:secret|token|passwd|password|api_?key|access_?key)[a-z0-9_]*[\"']?\s*[:=]\s*"
    r"[\"'](?P<value>[A-Za-z0-9+/=_.~-]{20,})[\"']"
)
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?P<rest>[^#;]*)")
_FROM_ELSEWHERE = ("git+", "http://", "https://", "git://", "github:")
_LARGEST_TEXT = 1_000_000


@contextmanager
def checked_out(repository: str, commit: str) -> Generator[Path]:
    """The files of a commit in a folder that goes when the block ends; the repository stays as it is.

    Raises RuntimeError with git's own words when there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="ci-", ignore_cleanup_errors=True) as folder:
        archive = subprocess.Popen(
            ["git", "-C", repository, "archive", "--format=tar", commit],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        unpacked = subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=False)
        _, words = archive.communicate()
        if archive.returncode != 0 or unpacked.returncode != 0:
            raise RuntimeError(f"cannot check out {commit[:10]}: {words.decode(errors='replace').strip()}")
        yield Path(folder)


def files_of(folder: Path) -> list[str]:
    """The paths of all files in a checkout, in the same order every time."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in found)
    # A name that is not UTF-8 cannot be written down as JSON.
    return sorted(name for name in names if name.encode(errors="ignore").decode() == name)


def batches(files: Sequence[str], at_most: int = 40) -> list[list[str]]:
    """The files in no more than so many batches, one file in each where there are few."""
    size = max(1, math.ceil(len(files) / at_most))
    return [list(files[n : n + size]) for n in range(0, len(files), size)] or [[]]


def run_tests(folder: Path, command: Sequence[str] | None = None, limit: float = 10) -> Report:
    """Run the tests of a checkout for `limit` seconds at most: a command of theirs, or what can be found.

    Without a command those of unittest run; where there are none, pytest, if it is here, collects its own.
    """
    if command is not None:
        code, said = _run(command, folder, limit)
        return _report(code == 0, _stopped(code, limit) or f"exit code {code}", said.splitlines()[-8:])
    code, said = _run([sys.executable, "-m", "unittest", "discover"], folder, limit)
    if report := _unittest_report(code, said, limit):
        return report
    if importlib.util.find_spec("pytest"):
        collect = ["-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
        code, said = _run([sys.executable, *collect], folder, limit)
        if count := re.search(r"^(\d+)(?:/\d+)? tests? collected", said, re.MULTILINE):
            return _report(True, f"{_counted(int(count.group(1)), 'test', 'tests')} collected, not run")
    return _report(True, "no tests that run without installing anything")


def _unittest_report(code: int, said: str, limit: float) -> Report | None:
    """What unittest came to; None where it found nothing that can run here."""
    last = said.strip().splitlines()[-8:]
    if stopped := _stopped(code, limit):
        return _report(False, stopped, last)
    count = re.search(r"^Ran (\d+) tests?", said, re.MULTILINE)
    # Modules whose imports are not installed here say nothing about the commit.
    unable = len(re.findall(r"^ERROR: .*_FailedTest", said, re.MULTILINE))
    total = int(count.group(1)) - unable if count else 0
    if total <= 0:
        return None
    broken = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", said)) - unable
    if broken > 0 or (code != 0 and unable == 0):
        return _report(False, f"{broken} of {total} tests failed", last)
    return _report(True, f"{_counted(total, 'test', 'tests')} passed")


def _run(command: Sequence[str], folder: Path, limit: float) -> tuple[int, str]:
    """Run a command; its exit code (124: stopped after the limit, 127: there is no such command) and all it said."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "PYTHONPATH")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    order = list(command)
    if shutil.which("timeout"):
        # A process of its own keeps the time, so that the limit holds even when this one is killed.
        order = ["timeout", "--kill-after=1", str(limit), *order]
    try:
        ran = subprocess.run(
            order, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit + 3, check=False,
        )  # fmt: skip
    except OSError as error:
        return 127, f"{order[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return 124, ""
    return (124 if ran.returncode == 137 else ran.returncode), ran.stdout


def _stopped(code: int, limit: float) -> str | None:
    return f"stopped after {limit:g} s" if code == 124 else None


def lint(folder: Path) -> Report:
    """Compile every Python file, and let ruff (else pyflakes) look for what is surely wrong."""
    python_files = [name for name in files_of(folder) if name.endswith(".py")]
    problems: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in python_files:
            try:
                compile((folder / name).read_bytes(), name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error:
                problems.append(f"{name}:{getattr(error, 'lineno', None) or 1}: {error}")
    linter = next((name for name in ("ruff", "pyflakes") if importlib.util.find_spec(name)), None)
    if linter == "ruff":
        found = _run_linter(folder, "ruff", "check", "--isolated", "--no-cache", "--exit-zero", "--quiet",
                            "--select=F", "--output-format=json", ".")  # fmt: skip
        problems += [
            f"{os.path.relpath(p['filename'], folder.resolve())}:{p['location']['row']}: {p['code']} {p['message']}"
            for p in json.loads(found or "[]")
            if p["code"] and p["code"].startswith("F")
        ]
    elif linter == "pyflakes":
        problems += _run_linter(folder, "pyflakes", ".").splitlines()
    with_what = linter or "compiled only"
    clean = f"{_counted(len(python_files), 'file', 'files') or 'no Python files,'} clean"
    summary = _counted(len(problems), "problem", "problems") or clean
    return _report(not problems, f"{summary} ({with_what})", problems)


def _run_linter(folder: Path, *arguments: str) -> str:
    order = [sys.executable, "-m", *arguments]
    return subprocess.run(order, cwd=folder, capture_output=True, text=True, check=False, timeout=60).stdout


def scan(folder: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """What is risky in some files: secrets (which break a build) and dependencies nobody has pinned."""
    findings: list[dict[str, Any]] = []
    for name in files:
        path = folder / name
        if path.stat().st_size > _LARGEST_TEXT:
            continue
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode(errors="replace")
        findings += [{"file": name, "line": n, "kind": "secret", "what": what} for n, what in _secrets(text)]
        findings += [{"file": name, "kind": "dependency", "what": what} for what in _risky_pins(name, text)]
    return findings


def scan_report(findings: list[dict[str, Any]], files: int) -> Report:
    """What was found in so many files, as one report."""
    secrets = [f for f in findings if f["kind"] == "secret"]
    pins = len(findings) - len(secrets)
    parts = [
        _counted(len(secrets), "secret", "secrets"),
        _counted(pins, "unpinned dependency", "unpinned dependencies"),
    ]
    summary = ", ".join(part for part in parts if part) or "nothing"
    return _report(not secrets, f"{summary} in {_counted(files, 'file', 'files') or 'no files'}", findings)


def _secrets(text: str) -> Iterator[tuple[int, str]]:
    kinds = list(_SECRETS)
    for number, line in enumerate(text.splitlines(), 1):
        if known := _SECRET.search(line):
            yield number, kinds[int((known.lastgroup or "s0")[1:])]
        elif (named := _NAMED_LIKE_A_SECRET.search(line)) and _entropy(named["value"]) > 4:
            yield number, "random-looking value in a variable named like a secret"


def _entropy(value: str) -> float:
    """Bits per character: about 3 to 3.7 for words and paths, above 4 for random text."""
    shares = [value.count(c) / len(value) for c in set(value)]
    return -sum(share * math.log2(share) for share in shares)


def _risky_pins(name: str, text: str) -> Iterator[str]:
    file = Path(name).name
    if re.fullmatch(r"requirements.*\.txt", file):
        lines = [
            line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "-"))
        ]
        yield from filter(None, map(_risky_requirement, lines))
    elif file == "pyproject.toml":
        try:
            project = tomllib.loads(text).get("project", {})
        except tomllib.TOMLDecodeError:
            return
        wanted = list(project.get("dependencies", []))
        for extra in project.get("optional-dependencies", {}).values():
            wanted += extra
        own = project.get("name", "")
        yield from filter(None, (_risky_requirement(w) for w in wanted if not w.startswith(f"{own}[")))
    elif file == "package.json":
        try:
            package = json.loads(text)
        except ValueError:
            return
        for group in ("dependencies", "devDependencies"):
            for package_name, version in (package.get(group) or {}).items():
                if version in ("", "*", "latest") or str(version).startswith(_FROM_ELSEWHERE):
                    yield f"{package_name}: {version or 'any version'}"


def _risky_requirement(line: str) -> str | None:
    if any(place in line for place in _FROM_ELSEWHERE):
        return f"{line.strip()}: not from an index"
    match = _REQUIREMENT.match(line)
    if match and (not match["rest"].strip() or match["rest"].strip(" =") == "*"):
        return f"{match['name']}: any version"
    return None


def _counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}" if n else ""


def _report(good: bool, summary: str, details: Sequence[Any] = ()) -> Report:
    report: Report = {"conclusion": "success" if good else "failure", "summary": summary}
    return {**report, "details": list(details)[:20]} if details else report
