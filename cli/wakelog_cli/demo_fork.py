"""The fork in the demo: a push fails over a typo in its rules, which is mended, and its workflow goes on from there."""

import json
import shlex
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import rows, sequence_if_allowed, value
from wakelog_cli.demo_facts import CHECKS, Progress, Push, look, timeline
from wakelog_cli.demo_repository import Commit, Repository, sample
from wakelog_cli.demo_screen import Screen
from wakelog_cli.demo_workers import Workers
from wakelog_cli.failures import Failure

if TYPE_CHECKING:
    from psycopg import Connection

TYPO = "secruity"
_PATIENCE = 60.0
_LOOK_EVERY = 0.03
_QUICK = timedelta(seconds=3)
"""A commit whose checks take longer is not pushed once more, only to show something."""


def fork_after_the_fix(
    connection: "Connection[Any]",
    repository: Repository,
    progress: Progress,
    workers: Workers,
    screen: Screen,
    scratch: Path,
) -> dict[str, Any]:
    """Push one commit under rules that nobody can satisfy; mend them; fork its workflow at its last outcome.

    Whatever the commits are like, the fork has one status, and none of the checks is run again for it. Raises `Failure`
    where a workflow does not come to its end.
    """
    from wakelog.workflows import fork

    commit, payload, words = _to_push(connection, repository, progress, scratch)
    rules = f"rules/{repository.name}"
    screen.say(f"{words}, under rules that have a typo in them.", "bold")
    _append(connection, "ci.rules", {"required": [*CHECKS[:-1], TYPO]}, screen, stream=rules)
    pushed = _append(connection, "push", {**payload, "rules": rules}, screen)
    old = Progress([Push(pushed, commit)])
    _wait_for_its_end(connection, old, workers)
    screen.say(f"  {_told(_first(old))}")

    screen.say("The typo is mended, and the workflow begun anew from where its last check came in.", "bold")
    _append(connection, "ci.rules", {"required": list(CHECKS)}, screen, stream=rules)
    # Not the one that the status came of: of outcomes at the same moment, that may be an earlier one.
    point = max(e["position"] for e in old.events if e["type"].split(".")[0] in CHECKS)
    before = timeline(connection, pushed)
    screen.typed(f"wakelog workflow fork {pushed} --from {point}")
    made = fork(connection, pushed, position=point)
    sequence_if_allowed(connection)
    new = Progress([Push(made, commit)])
    _wait_for_its_end(connection, new, workers)
    return _outcome(connection, old, new, point, before, screen)


def _outcome(
    connection: "Connection[Any]",
    old: Progress,
    new: Progress,
    point: int,
    before: list[dict[str, Any]],
    screen: Screen,
) -> dict[str, Any]:
    """What the fork came to, compared with what it has to."""
    (pushed,), (made,) = old.ids, new.ids
    first, second = _first(old), _first(new)
    worked = sorted({one["name"] for one in timeline(connection, made) if one["what"] == "delivery"})
    untouched = timeline(connection, pushed) == before
    lineage = _lineage(connection, made) + _lineage(connection, pushed)
    wanted = [("forked from", pushed, point), ("forked as", made, point)]
    mended = _mended(first)
    facts: dict[str, Any] = {
        "commit": old.pushes[0].commit.sha,
        "workflow": pushed,
        "fork": made,
        "from": point,
        "before": first,
        "after": second,
        "statuses": len(new.statuses(made)),
        "old_statuses": len(old.statuses(pushed)),
        "done_anew": worked,
        "untouched": untouched,
        "lineage": lineage,
        "last_position": new.read_up_to,
    }
    found: list[tuple[bool, str]] = [
        (facts["statuses"] == 1, f"Expected one status of the fork, found {facts['statuses']}."),
        (TYPO in first["checks"] and first["state"] == "failure",
         f"Expected the typo {TYPO} to fail the push, found {first}."),
        (second == mended, f"Expected the fork's status to be {mended}, found {second}."),
        (worked == ["status"], f"Expected only status to work in the fork, found {', '.join(worked)}."),
        (untouched, f"Expected nothing of the old workflow {pushed} to change, found that something did."),
        ([(line["relation"], line["other"], line["position"]) for line in lineage] == wanted,
         f"Expected both workflows to know of each other, found {lineage}."),
    ]  # fmt: skip
    facts["ok"] = all(good for good, _ in found)
    if facts["ok"]:
        screen.say(
            f"  {_told(second)}, exactly one. Only status worked; {', '.join(CHECKS)} were done before that "
            "point, and not again. The old workflow is as it was."
        )
    for workflow, line in zip((made, pushed), lineage, strict=False):
        screen.typed(f"wakelog workflow show {workflow}")
        screen.say(f"  … {line['relation']} {line['other']} at position {line['position']}")
    for good, what in found:
        if not good:
            screen.wrong(what)
    return facts


def _mended(status: dict[str, Any]) -> dict[str, Any]:
    """What a status that came of the typo has to be without it."""
    checks = {name: result for name, result in status["checks"].items() if name != TYPO}
    good = all(result["outcome"] == "success" for result in checks.values())
    return {**status, "checks": checks, "state": "success" if good else "failure"}


def _to_push(
    connection: "Connection[Any]", repository: Repository, progress: Progress, scratch: Path
) -> tuple[Commit, dict[str, Any], str]:
    """Which commit is to be pushed, with which payload, and words for that.

    The latest that came out well, so that nothing but the typo can be wrong with it, else the latest; where its
    checks took long, that of the bundled sample.
    """
    well = [
        push
        for push in progress.pushes
        if any(status["payload"]["state"] == "success" for status in progress.statuses(push.event_id))
    ]
    again = (well or progress.pushes)[-1]
    # Not the scan: the one that was interrupted was slowed down for that.
    took = [one["took"] for one in timeline(connection, again.event_id) if one["name"] in ("tests", "lint")]
    unpacked = scratch / "tally"
    if max(took, default=timedelta(0)) > _QUICK and not unpacked.exists():
        other = sample(1, scratch, "quicker checks are wanted")
        (commit,) = other.commits
        payload: dict[str, Any] = {"after": commit.sha, "repository": {"path": str(other.path)}}
        return commit, payload, f"{commit.short} of the bundled sample, whose checks are quicker, is pushed"
    said = next(e["payload"] for e in progress.events if e["id"] == again.event_id)
    kept = {name: said[name] for name in ("after", "test_command", "test_limit") if name in said}
    payload = {**kept, "repository": {"path": str(repository.path)}}
    return again.commit, payload, f"{again.commit.short} is pushed once more"


def _append(
    connection: "Connection[Any]",
    type_: str,
    payload: dict[str, Any],
    screen: Screen,
    stream: str | None = None,
) -> str:
    """Append an event as the command that is shown would; its id."""
    from wakelog import append

    to = f" --stream {shlex.quote(stream)}" if stream else ""
    screen.typed(f"wakelog append {type_} {shlex.quote(json.dumps(payload, ensure_ascii=False))}{to}")
    event = append(connection, type_, payload, stream=stream)
    sequence_if_allowed(connection)
    return str(event.id)


def _wait_for_its_end(connection: "Connection[Any]", progress: Progress, workers: Workers) -> None:
    """Wait until a workflow has its status and nothing of it is left to do. Raises `Failure` after a minute."""
    until = time.monotonic() + _PATIENCE
    (workflow,) = progress.ids
    while time.monotonic() < until:
        workers.require_running()
        rest = value(
            connection,
            "select state in ('done', 'failed') from wakelog.workflow_summary(%(workflow)s)",
            {"workflow": workflow},
        )
        look(connection, progress)
        if rest and progress.finished:
            return
        time.sleep(_LOOK_EVERY)
    raise Failure(
        f"expected the workflow {workflow} to have its status within {_PATIENCE:.0f} seconds, found that it has not",
        next_command=f"see: wakelog workflow show {workflow}",
    )


def _first(progress: Progress) -> dict[str, Any]:
    (workflow,) = progress.ids
    return progress.statuses(workflow)[0]["payload"]


def _told(status: dict[str, Any]) -> str:
    """A status in a few words: what is wrong, if anything."""
    wrong = [
        f"{name}: {result['summary']}"
        for name, result in status["checks"].items()
        if result["outcome"] != "success"
    ]
    mark = "✓" if status["state"] == "success" else "✗"
    return f"{mark} ci.status: {status['state']}" + (f" ({'; '.join(wrong)})" if wrong else "")


def _lineage(connection: "Connection[Any]", workflow: str) -> list[dict[str, Any]]:
    return rows(
        connection,
        """select correlation_id, relation, other, position from wakelog.lineage
           where correlation_id = %(workflow)s order by forked_at""",
        {"workflow": workflow},
    )
