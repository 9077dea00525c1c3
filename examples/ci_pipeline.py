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
    row is locked first: of three that come at the same moment, each sees what those before it have written.
    """
    check, _, end = event.type.partition(".")
    outcome = event.payload["conclusion"] if end == "completed" else "error"
    summary = event.payload["summary"] if end == "completed" else event.payload["error"]
    db, push = ctx.connection, event.causation_id

    commit = db.execute(
        "insert into ci.pushes (push, commit) select id, payload ->> 'after' from wakelog.events where id = %s"
        " on conflict (push) do update set push = excluded.push returning commit",  # locks the row
        [push],
    ).fetchone()[0]
    added = db.execute(
        "insert into ci.results values (%s, %s, %s, %s) on conflict do nothing",
        [push, check, outcome, summary],
    ).rowcount
    rows = db.execute('select "check", outcome, summary from ci.results where push = %s', [push]).fetchall()
    if not added or len(rows) < len(CHECKS):
        return
    state = "success" if all(outcome == "success" for _, outcome, _ in rows) else "failure"
    results = {name: {"outcome": outcome, "summary": summary} for name, outcome, summary in rows}
    append(
        db, "ci.status", {"commit": commit, "state": state, "checks": results}, source="status",
        idempotency_key=str(push), correlation_id=event.correlation_id, causation_id=event.id,
    )  # fmt: skip
