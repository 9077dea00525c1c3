"""make bench: a figure below its bound is marked, --strict makes it count, and Ctrl-C leaves nothing behind."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as program
from benchmarks.figure import Figure, Turns
from tests.worker.waiting import until

from wakelog import WakelogError

ROOT = Path(__file__).parents[2]


class NoGround:
    """Stands for the server, which these need not."""

    binaries = type("NoBinaries", (), {"version": "17.2"})

    def close(self) -> None: ...


def run(monkeypatch: pytest.MonkeyPatch, benchmark: Any, *arguments: str) -> int:
    monkeypatch.setattr(program, "Ground", NoGround)
    monkeypatch.setattr(program, "catalogue", lambda scale, turns: {"one": benchmark})
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        return program.main()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def of(ours: list[float], theirs: list[float], bound: float | None, lower: bool = False) -> Any:
    def benchmark(ground: object) -> Iterator[Figure]:
        yield Turns(ours, theirs).figure("it", "events/s", "by hand", bound, lower_is_better=lower)

    return benchmark


@pytest.mark.parametrize(
    ("benchmark", "holds"),
    [
        (of([50, 10, 40], [80, 80, 80], 0.5), True),
        (of([39, 10, 90], [80, 80, 80], 0.5), False),
        (of([6, 6, 6], [2, 2, 2], 3, lower=True), True),
        (of([7, 7, 7], [2, 2, 2], 3, lower=True), False),
        (of([1], [100], None), True),
    ],
)
def test_a_figure_below_its_bound_is_marked_and_counts_where_it_is_strict(
    benchmark: Any,
    holds: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    told = tmp_path / "figures.json"
    assert run(monkeypatch, benchmark, "--json", str(told)) == 0
    assert ("FALLS SHORT" in capsys.readouterr().out) is not holds
    assert [figure["holds"] for figure in json.loads(told.read_text())["figures"]] == [holds]
    assert run(monkeypatch, benchmark, "--strict") == (0 if holds else 1)


def test_one_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(ground: object) -> Iterator[Figure]:
        yield from of([1], [1], 1)(ground)
        raise WakelogError("found some left")

    assert run(monkeypatch, failing) == 1
    said = capsys.readouterr().out
    assert "holds" in said
    assert "found some left" in said


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs /proc, to see which processes there are"
)
def test_ctrl_c_leaves_no_process_behind() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--quick", "steps"], cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as bench:  # fmt: skip
        started: dict[int, str] = {}

        def a_worker_has_started() -> bool:
            started.update(descendants(bench.pid))
            return bench.poll() is not None or any(
                "worker.process" in command for command in started.values()
            )

        until(a_worker_has_started, within=60)
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=60)
    assert bench.returncode == 130, said
    assert "Traceback" not in said
    assert {pid: command for pid, command in started.items() if command and command_of(pid) == command} == {}


def descendants(pid: int) -> dict[int, str]:
    """The processes that came of one, with their command lines."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # a process may end while it is looked at
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                found |= {child: command_of(child)} | descendants(child)
    return found


def command_of(pid: int) -> str:
    """Its command line; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
