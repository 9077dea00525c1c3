"""What the CI example's checks say about files that are right and files that are not."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.worker.waiting import until

from wakelog import Wakelog

# Put together here, so that nothing that scans this file takes them for real.
SECRETS = {
    "AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "Slack token": "xoxb-" + "123456789012",
    "Stripe key": "sk_live_" + "a1B2c3D4e5F6g7H8",
    "random-looking value in a variable named like a secret": "api_key = 'q7Rz" + "K2mW9xLp4TvB8nYc1DgH5sJf'",
}


@pytest.fixture(scope="session")
def checks(pipeline: Wakelog) -> ModuleType:
    return sys.modules["ci_checks"]


@pytest.mark.parametrize(("what", "text"), list(SECRETS.items()))
def test_a_secret_breaks_the_build(checks: ModuleType, tmp_path: Path, what: str, text: str) -> None:
    (tmp_path / "settings.py").write_text(f"first = 1\nsecond = {text}\n")
    found = checks.scan(tmp_path, ["settings.py"])
    assert found == [{"file": "settings.py", "line": 2, "kind": "secret", "what": what}]
    assert checks.scan_report(found, 1)["conclusion"] == "failure"


@pytest.mark.parametrize(
    "text",
    [
        'password = "correct-horse-battery-staple"',
        'token = os.environ["SERVICE_TOKEN_FOR_PRODUCTION"]',
        "the key is in the secret store",
        'SECRET_KEY_FILE = "/etc/service/secret_key_file"',
    ],
)
def test_what_only_looks_like_a_secret_does_not(checks: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.py").write_text(text)
    assert checks.scan(tmp_path, ["settings.py"]) == []


@pytest.mark.parametrize(
    ("file", "text", "risky"),
    [
        ("requirements.txt", "a==1.0\nb>=2\n# c\n-r other.txt\n", []),
        ("requirements-dev.txt", "plain\nstar==*\ngit+https://host/x.git\n", 3),
        ("pyproject.toml", '[project]\nname = "p"\ndependencies = ["a>=1", "b", "p[x]"]\n', 1),
        (
            "package.json",
            '{"dependencies": {"a": "^1.0.0", "b": "*", "c": "git+ssh://h/r"}, "devDependencies": {"d": ""}}',
            3,
        ),
        ("package.json", "not json", []),
    ],
)
def test_a_dependency_that_nobody_pinned_is_named(
    checks: ModuleType, tmp_path: Path, file: str, text: str, risky: int | list[str]
) -> None:
    (tmp_path / file).write_text(text)
    found = checks.scan(tmp_path, [file])
    assert len(found) == (risky or 0)
    assert checks.scan_report(found, 1)["conclusion"] == "success"


def test_large_and_binary_files_are_passed_over(checks: ModuleType, tmp_path: Path) -> None:
    secret = SECRETS["AWS access key"].encode()
    (tmp_path / "image").write_bytes(b"\0" + secret)
    (tmp_path / "dump").write_bytes(b"x" * 1_000_001 + secret)
    assert checks.scan(tmp_path, ["dump", "image"]) == []


def test_lint_names_what_does_not_compile(checks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    assert checks.lint(tmp_path)["conclusion"] == "success"
    (tmp_path / "bad.py").write_text("def f(:\n")
    report = checks.lint(tmp_path)
    assert report["conclusion"] == "failure"
    assert any(line.startswith("bad.py:1") for line in report["details"])


def test_tests_that_fail_fail_and_those_that_cannot_be_imported_say_nothing(
    checks: ModuleType, tmp_path: Path
) -> None:
    head = "import unittest\n{}\nclass T(unittest.TestCase):\n    def test_it(self):\n        assert {}\n"
    (tmp_path / "test_good.py").write_text(head.format("", "True"))
    (tmp_path / "test_far.py").write_text(head.format("import not_installed_anywhere", "True"))
    assert checks.run_tests(tmp_path) == {"conclusion": "success", "summary": "1 test passed"}
    (tmp_path / "test_bad.py").write_text(head.format("", "False"))
    report = checks.run_tests(tmp_path)
    assert (report["conclusion"], report["summary"]) == ("failure", "1 of 2 tests failed")


def test_tests_that_hang_are_stopped_with_all_they_started(checks: ModuleType, tmp_path: Path) -> None:
    began = time.monotonic()
    report = checks.run_tests(tmp_path, ["sh", "-c", "sleep 4321 & sleep 4321"], limit=0.5)
    assert report["conclusion"] == "failure"
    assert "stopped after 0.5 s" in report["summary"]
    assert time.monotonic() - began < 10
    if Path("/proc/self/cmdline").exists():
        # Killed is not yet ended.
        until(lambda: not any(b"4321" in command for command in commands()))


def commands() -> Iterator[bytes]:
    """The command lines of all processes there are."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it may end while it is looked at
            yield file.read_bytes()


def test_a_commit_that_is_not_there_is_an_error_in_gits_words(checks: ModuleType, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with (
        pytest.raises(RuntimeError, match="cannot check out 0123456789"),
        checks.checked_out(str(tmp_path), "0123456789abcdef"),
    ):
        pass


def test_no_more_batches_than_asked_for_and_no_file_left_out(checks: ModuleType) -> None:
    for count in (0, 1, 39, 40, 41, 1000):
        files = [f"f{n}" for n in range(count)]
        batches = checks.batches(files)
        assert 1 <= len(batches) <= 40
        assert [name for batch in batches for name in batch] == files


def test_a_command_of_the_users_own_counts_by_its_exit_code(checks: ModuleType, tmp_path: Path) -> None:
    assert checks.run_tests(tmp_path, ["sh", "-c", "exit 0"])["conclusion"] == "success"
    report = checks.run_tests(tmp_path, ["sh", "-c", "echo no; exit 3"])
    assert report == {"conclusion": "failure", "summary": "exit code 3", "details": ["no"]}
    assert checks.run_tests(tmp_path, ["not-a-command"])["summary"] == "exit code 127"


def test_tests_for_pytest_are_collected(checks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(): pass\ndef test_two(): assert False\n")
    report = checks.run_tests(tmp_path)
    assert report == {"conclusion": "success", "summary": "2 tests collected, not run"}
