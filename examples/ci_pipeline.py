"""A CI pipeline: a push wakes tests, lint and a security scan, all at once; together they make one status.

push ──┬─▶ tests ────┐
       ├─▶ lint ─────┼─▶ status ──▶ ci.status   (one per push)
       └─▶ security ─┘

Where each run stands is a projection of the same log: `select * from ci_runs.runs`.

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
    (`wakelog workflow fork`), the outcomes of the past that it shares count as well, and those that were copied into
    it: of these, some may be for other agents alone.
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
        "select type, payload from wakelog.workflow_events(%s)"
        " where (shared or original is not null) and type = any (%s)",
        [workflow, [f"{check}.{end}" for check in CHECKS for end in ("completed", "failed")]],
    ).fetchall()
    rows = [outcome_of(*outcome) for outcome in past]
    rows += db.execute(
        'select "check", outcome, summary from ci.results where workflow = %s', [workflow]
    ).fetchall()
    results = {name: {"outcome": outcome, "summary": summary} for name, outcome, summary in rows}
    if not added or len(results) < len(CHECKS):
        return
    required = required_checks(db, event.causation_id)
    for name in required:
        results.setdefault(name, {"outcome": "missing", "summary": "required, but no agent does this check"})
    state = "success" if all(results[name]["outcome"] == "success" for name in required) else "failure"
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


def required_checks(db: Any, push: Any) -> list[str]:
    """Which checks must succeed: what was last said in the stream that a push names as its rules; else all of them."""
    said = db.execute(
        "select r.payload -> 'required' from wakelog.events p"
        " join wakelog.events r on r.stream = p.payload ->> 'rules' and r.type = 'ci.rules'"
        " where p.id = %s order by r.seq desc limit 1",
        [push],
    ).fetchone()
    return list(CHECKS) if said is None else said[0]


# However many events come at a time: of two outcomes of a check the later one counts.
app.projection(
    "ci_runs",
    on=["push", "ci.status", *(f"{check}.{end}" for check in CHECKS for end in ("completed", "failed"))],
    tables="create table runs (id text primary key, commit text, checks jsonb not null, state text)",
    sql="""
        insert into runs
        select coalesce(correlation_id, id::text), max(coalesce(payload ->> 'after', payload ->> 'commit')),
               coalesce(jsonb_object_agg(split_part(type, '.', 1), coalesce(payload ->> 'conclusion', 'error')
                   order by position) filter (where type not in ('push', 'ci.status')), '{}'),
               min(payload ->> 'state') filter (where type = 'ci.status')
        from new_events group by 1
        on conflict (id) do update
        set commit = greatest(runs.commit, excluded.commit), checks = runs.checks || excluded.checks,
            state = least(runs.state, excluded.state)
    """,
)
