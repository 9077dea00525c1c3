"""A CI pipeline: a push wakes tests, lint and a security scan, all at once; together they make one status.

push ──┬─▶ tests ────┐
       ├─▶ lint ─────┼─▶ status ──▶ ci.status   (one per push)
       └─▶ security ─┘

psql "$DATABASE_URL" -f examples/ci_tables.sql     # once: where the results are collected
wakelog worker examples/ci_pipeline.py             # as many of these as you like, on any machine
wakelog append push '{"after": "HEAD", "repository": {"path": "."}}'
"""

import time
from typing import Any

import ci_checks

from wakelog import Context, Event, Wakelog, append

app = Wakelog("ci")

CHECKS = ("tests", "lint", "security")


@app.agent("tests", on="push", timeout="2m", max_attempts=3)
def tests(event: Event, ctx: Context) -> dict[str, Any]:
    """Run the tests of the commit; what is returned becomes the event `tests.completed`."""
    push = event.payload
    with ci_checks.checked_out(push["repository"]["path"], push["after"]) as folder:
        return ci_checks.run_tests(folder, push.get("test_command"), push.get("test_limit", 10))


@app.agent("lint", on="push", timeout="2m", max_attempts=3)
def lint(event: Event, ctx: Context) -> dict[str, Any]:
    """Compile and lint every Python file of the commit."""
    push = event.payload
    with ci_checks.checked_out(push["repository"]["path"], push["after"]) as folder:
        return ci_checks.lint(folder)


@app.agent("security", on="push", timeout="2m", max_attempts=3)
def security(event: Event, ctx: Context) -> dict[str, Any]:
    """Look for secrets and unpinned dependencies, a few files at a time.

    The plan and each batch are steps: what they returned is kept in the database. A worker that dies in the middle
    costs the batch it was at; the one that takes over goes on from there.
    """
    push = event.payload
    found: list[dict[str, Any]] = []
    scanned_now = 0

    def scan(batch: list[str]) -> list[dict[str, Any]]:
        nonlocal scanned_now
        scanned_now += len(batch)
        time.sleep(push.get("pace", 0))  # nothing, unless somebody wants to watch
        return ci_checks.scan(folder, batch)

    with ci_checks.checked_out(push["repository"]["path"], push["after"]) as folder:
        plan = ctx.step("plan", lambda: ci_checks.batches(ci_checks.files_of(folder)))
        for n, batch in enumerate(plan, 1):
            found += ctx.step(f"batch {n}", scan, batch)
    files = sum(map(len, plan))
    return {**ci_checks.scan_report(found, files), "files": files, "scanned_now": scanned_now}


@app.agent("status", on=[f"{check}.{end}" for check in CHECKS for end in ("completed", "failed")])
def status(event: Event, ctx: Context) -> None:
    """Collect the three outcomes of a push; whoever brings the last one posts the status.

    All of it is in one transaction with the acknowledgement, so each outcome is written down exactly once. The push's
    row is locked first: of three that come at the same moment, each sees what those before it have written. In a fork
    (`wakelog workflow fork`), the outcomes of the past that it shares count as well.
    """
    db, workflow = ctx.connection, event.correlation_id
    commit = db.execute(
        "insert into ci.pushes (workflow, commit) select %s, payload ->> 'after' from wakelog.events where id = %s"
        " on conflict (workflow) do update set workflow = excluded.workflow returning commit",  # locks the row
        [workflow, event.causation_id],
    ).fetchone()[0]
    added = db.execute(
        "insert into ci.results values (%s, %s, %s, %s) on conflict do nothing",
        [workflow, *outcome_of(event.type, event.payload)],
    ).rowcount
    past = db.execute(
        "select type, payload from wakelog.workflow_events(%s) where shared and type = any (%s)",
        [workflow, [f"{check}.{end}" for check in CHECKS for end in ("completed", "failed")]],
    ).fetchall()
    rows = [outcome_of(*outcome) for outcome in past]
    rows += db.execute(
        'select "check", outcome, summary from ci.results where workflow = %s', [workflow]
    ).fetchall()
    results = {name: {"outcome": outcome, "summary": summary} for name, outcome, summary in rows}
    if not added or len(results) < len(CHECKS):
        return
    state = "success" if all(result["outcome"] == "success" for result in results.values()) else "failure"
    append(
        db, "ci.status", {"commit": commit, "state": state, "checks": results}, source="status",
        idempotency_key=workflow, correlation_id=workflow, causation_id=event.id,
    )  # fmt: skip


def outcome_of(type_: str, payload: dict[str, Any]) -> tuple[str, str, str]:
    """Which check an event tells of, what came of it, and a sentence about that."""
    check, _, end = type_.partition(".")
    if end == "completed":
        return check, payload["conclusion"], payload["summary"]
    return check, "error", payload["error"]
