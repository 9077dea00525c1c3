"""The kill in the middle of the demo, who takes over, and whether all of it came out right."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wakelog_cli.demo_facts import (
    CHECKS,
    Progress,
    Push,
    TakeOver,
    Working,
    database_time,
    look,
    results_recorded,
    take_over,
)
from wakelog_cli.demo_repository import Commit, Repository
from wakelog_cli.demo_screen import Screen
from wakelog_cli.demo_workers import Workers

if TYPE_CHECKING:
    from psycopg import Connection


@dataclass(slots=True)
class Kill:
    """A worker process that was killed in the middle of a security scan, and what became of the scan."""

    push: Push
    scan: Working
    process: int
    at: datetime
    position: int
    """Up to where the log was read then; the scan's end is not among it."""
    taken_over: TakeOver | None = None


def victim_of(commits: list[Commit]) -> Commit:
    """The commit whose scan is to be interrupted: the one with most to scan, the latest of them."""
    return max(reversed(commits), key=lambda commit: commit.files)


def kill_in_the_middle(
    connection: "Connection[Any]", progress: Progress, push: Push, workers: Workers, screen: Screen
) -> Kill | None:
    """Kill the process that scans this push, when it is half through; None while it is not."""
    scan = progress.working.get((push.event_id, "security"))
    if (
        scan is None
        or scan.state != "running"
        or scan.batches is None
        or scan.batches_done < scan.batches // 2
    ):
        return None
    process = workers.process_of(scan.worker_name or "")
    if process is None:
        return None
    workers.kill(process)
    at = database_time(connection)
    progress.killed = scan.worker
    # A batch may have ended since the last look.
    screen.show(progress, look(connection, progress))
    scan = progress.working.get((push.event_id, "security"), scan)
    kill = Kill(push, scan, process, at, progress.read_up_to)
    screen.tell(
        f"Killed process {process} (SIGKILL), which was scanning {push.commit.short}: "
        f"{scan.files_done} of {scan.files} files done.",
        "bold red",
    )
    return kill


def notice_take_over(connection: "Connection[Any]", progress: Progress, kill: Kill, screen: Screen) -> None:
    """Look whether another worker has the interrupted scan by now, and say so."""
    assert kill.scan.worker is not None
    kill.taken_over = take_over(connection, kill.scan.position, kill.scan.worker, kill.at)
    if kill.taken_over is not None:
        name = progress.workers.get(kill.taken_over.worker, str(kill.taken_over.worker))
        screen.tell(
            f"Worker {name} took over {kill.taken_over.after.total_seconds():.2f} s after the kill, "
            f"and goes on after the {kill.scan.files_done} files that are done.",
            "bold green",
        )


def outcome(
    connection: "Connection[Any]",
    repository: Repository,
    progress: Progress,
    kill: Kill | None,
    seconds: float,
) -> dict[str, Any]:
    """The facts, for --json and for the exit code."""
    pushes: list[dict[str, Any]] = []
    for push in progress.pushes:
        statuses = progress.statuses(push.event_id)
        pushes.append({
            "push": push.event_id,
            "commit": push.commit.sha,
            "subject": push.commit.subject,
            "statuses": len(statuses),
            "state": statuses[0]["payload"]["state"] if statuses else None,
            "checks": statuses[0]["payload"]["checks"] if statuses else {},
            "results_recorded": results_recorded(connection, push.event_id),
        })  # fmt: skip
    all_told = all(p["statuses"] == 1 and p["results_recorded"] == len(CHECKS) for p in pushes)
    return {
        "ok": all_told and kill is not None and kill.taken_over is not None,
        "repository": str(repository.path),
        "pushes": pushes,
        "killed": _killed(progress, kill),
        "past": None,
        "seconds": round(seconds, 2),
    }


def _killed(progress: Progress, kill: Kill | None) -> dict[str, Any] | None:
    if kill is None:
        return None
    taken_over = kill.taken_over
    report = progress.outcome(kill.push.event_id, "security")
    return {
        "push": kill.push.event_id,
        "process": kill.process,
        "position": kill.position,
        "worker": kill.scan.worker,
        "files": kill.scan.files,
        "files_done": kill.scan.files_done,
        "taken_over_by": taken_over.worker if taken_over else None,
        "taken_over_after": taken_over.after.total_seconds() if taken_over else None,
        "attempts": taken_over.attempts if taken_over else kill.scan.attempt,
        "files_scanned_after": report["payload"].get("scanned_now") if report else None,
    }
