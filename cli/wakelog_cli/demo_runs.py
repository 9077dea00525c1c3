"""The projection in the demo: ci_runs is made anew, compared with the log, and shown as it was."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from wakelog_cli.database import connected, sequence_if_allowed, value
from wakelog_cli.demo_facts import CHECKS, Progress
from wakelog_cli.demo_kill import Kill
from wakelog_cli.demo_repository import examples_folder
from wakelog_cli.demo_screen import Screen
from wakelog_cli.failures import ExitCode, Failure
from wakelog_cli.output import counted
from wakelog_cli.rebuilding import as_it_was, compare, definition_of, finish_rebuild

if TYPE_CHECKING:
    from psycopg import Connection

    from wakelog.projections.builds import Build

PROJECTION = "ci_runs"
AGO = timedelta(minutes=2)
_PATIENCE = "60s"
"""For a projection that is new to a long log, and is folded from its beginning."""

Runs = dict[str, dict[str, Any]]
"""By push, the columns of ci_runs.runs: commit, checks and state."""


def expected_runs(progress: Progress, upto: int) -> Runs:
    """What the projection has to say of the demo's pushes as of a position: folded here, from what the demo saw."""
    found: Runs = {}
    for event in progress.events:
        if event["position"] > upto:
            continue
        said = event["payload"]
        check, _, _ = event["type"].partition(".")
        if event["type"] == "push":
            found[event["correlation_id"]] = {"commit": said["after"], "checks": {}, "state": None}
        elif event["type"] == "ci.status":
            found[event["correlation_id"]]["state"] = said["state"]
        elif check in CHECKS:
            found[event["correlation_id"]]["checks"][check] = said.get("conclusion", "error")
    return found


def ours(tables: Mapping[str, list[dict[str, Any]]], progress: Progress) -> Runs:
    """Of the projection's tables, what they say of the demo's pushes; a named database may have other runs."""
    known = {run.pop("id"): run for run in (dict(row) for row in tables["runs"])}
    return {push: known[push] for push in progress.ids if push in known}


def require_our_own(connection: "Connection[Any]") -> None:
    """Raises `Failure` (5) where the database has another projection of that name, or it is paused there."""
    from wakelog.errors import BadInput
    from wakelog.projections.builds import builds_of, register

    nothing_there = value(
        connection,
        """select to_regnamespace(%(name)s) is null
                  and not exists (select from wakelog.projections where name = %(name)s)""",
        {"name": PROJECTION},
    )
    if nothing_there:
        return
    definition = definition_of(str(examples_folder() / "ci_pipeline.py"), PROJECTION)
    assert definition is not None
    found = f"a newer version of {PROJECTION}"
    try:
        if register(connection, definition) is not None:
            if not any(one.paused for one in builds_of(connection, [PROJECTION])):
                return
            found = f"{PROJECTION} paused"
    except BadInput as refused:
        found = str(refused.args[0])
    raise Failure(
        f"expected a database where {PROJECTION} is the demo's own projection, or nothing; found: {found}; use another "
        "database, or see what is there",
        ExitCode.CONFLICT,
        next_command=f"type: wakelog projection show {PROJECTION}",
    )


def make_anew(url: str, progress: Progress, screen: Screen) -> dict[str, Any]:
    """Make the projection anew while its worker runs, and compare it with what it was, and with the log.

    Raises `ProjectionBehind` where no worker folds it.
    """
    from wakelog import wait_until
    from wakelog.projections.looking_back import tables_of
    from wakelog.projections.rebuilding import begin_rebuild

    # Connections of their own, as the commands have them: one that has made a projection anew keeps the lock on it.
    with connected(url) as connection:
        wait_until(connection, PROJECTION, progress.read_up_to, timeout=_PATIENCE)
        replaced = _serving(connection)
        before = ours(tables_of(connection, replaced.schema), progress)
        screen.typed(f"wakelog projection rebuild {PROJECTION}")
        sequence_if_allowed(connection)
        try:
            begun = begin_rebuild(connection, PROJECTION, None)
            folded, _ = finish_rebuild(connection, url, begun, None, None, 1)
        except KeyboardInterrupt:
            _put_away(connection)
            raise
        serves = _serving(connection)
        after = ours(tables_of(connection, serves.schema), progress)
    rate = folded.events / max(folded.seconds, 1e-6)
    screen.say(
        f"  {folded.events:,} positions folded in {folded.seconds:.2f} s ({rate:,.0f} a second) beside the tables that "
        f"serve, which then were replaced in one moment."
    )
    screen.draw_runs(after, progress)
    screen.typed(f"wakelog projection verify {PROJECTION}")
    with connected(url) as connection:
        verdict = compare(connection, url, PROJECTION, None, None, 1)
    same, expected = before == after, expected_runs(progress, progress.read_up_to)
    in_its_place = folded.served and serves.build != replaced.build
    good = in_its_place and same and after == expected and verdict.difference is None
    if good:
        screen.say(f"  Identical before and after, and to what the log says: {counted(verdict.rows, 'row')}.")
    if not in_its_place:
        screen.wrong("Expected the projection made anew to serve, found that the one before it still does.")
    if not same:
        screen.wrong(f"Expected the runs after the rebuild as before, {before}, found {after}.")
    if after != expected:
        screen.wrong(f"Expected {PROJECTION} to say {expected}, found {after}.")
    if verdict.difference is not None:
        screen.wrong(f"Expected {PROJECTION} to be what its log says, found {verdict.difference}.")
    return {
        "ok": good,
        "name": PROJECTION,
        "runs": after,
        "positions": folded.events,
        "seconds": round(folded.seconds, 3),
        "replaced": in_its_place,
        "same_before_and_after": same,
        "verified_rows": verdict.rows,
        "as_the_log_says": verdict.difference is None,
    }


def show_the_past(url: str, progress: Progress, kill: Kill, screen: Screen) -> list[dict[str, Any]]:
    """Show the projection as of two minutes ago, and as of the kill, when a run was not finished."""
    screen.typed(f"wakelog projection show {PROJECTION} --at {AGO.seconds // 60}m")
    with connected(url) as connection:
        upto = value(connection, "select wakelog.position_at(%(at)s)", {"at": datetime.now(UTC) - AGO})
        long_ago = _as_of(connection, url, upto, progress, screen)
    screen.typed(f"wakelog projection show {PROJECTION} --position {kill.position}")
    with connected(url) as connection:
        middle = _as_of(connection, url, kill.position, progress, screen)
    then = middle["runs"].get(kill.push.event_id)
    caught = then is not None and then["state"] is None and "security" not in then["checks"]
    if not caught:
        middle["ok"] = False
        screen.wrong(
            f"Expected the push of {kill.push.commit.short} to be unfinished at position {kill.position}, found {then}."
        )
    return [long_ago, middle]


def goes_on(url: str, fork: str, upto: int, screen: Screen) -> dict[str, Any]:
    """Whether a worker has gone on with the tables made anew, so that they have the fork, whose events end at `upto`.

    Raises `ProjectionBehind` where none does.
    """
    from wakelog import wait_until
    from wakelog.projections.looking_back import tables_of

    screen.typed(f"wakelog projection show {PROJECTION}")
    with connected(url) as connection:
        wait_until(connection, PROJECTION, upto, timeout=_PATIENCE)
        tables = tables_of(connection, _serving(connection).schema)
    run = next((row for row in tables["runs"] if row["id"] == fork), None)
    good = run is not None and run["state"] is not None
    if good:
        screen.say("  Made anew before, it has been kept up to date: the fork is in it as a run of its own.")
    else:
        screen.wrong(f"Expected {PROJECTION} to have the fork {fork} as a finished run, found {run}.")
    return {"ok": good, "run": run}


def _as_of(
    connection: "Connection[Any]", url: str, upto: int, progress: Progress, screen: Screen
) -> dict[str, Any]:
    tables = as_it_was(connection, url, PROJECTION, None, None, upto)
    assert tables is not None
    found, expected = ours(tables, progress), expected_runs(progress, upto)
    unfinished = sum(run["state"] is None for run in found.values())
    if found:
        screen.say(
            f"  As of position {upto:,}, {unfinished} of {counted(len(found), 'run')} not finished yet:"
        )
        screen.draw_runs(found, progress)
    else:
        others = len(tables["runs"])
        what = f"none of these, but {counted(others, 'run')} of before" if others else "empty"
        screen.say(f"  As of position {upto:,}: {what}, for all that is shown here is younger than that.")
    if found != expected:
        screen.wrong(f"Expected the runs as of position {upto} to be {expected}, found {found}.")
    return {"ok": found == expected, "position": upto, "unfinished": unfinished, "runs": found}


def _put_away(connection: "Connection[Any]") -> None:
    """Drop what was begun and has not come to serve: nobody is to wonder about it who did not ask for it."""
    from wakelog.projections.builds import builds_of
    from wakelog.projections.rebuilding import drop_left_behind

    for one in builds_of(connection, [PROJECTION]):
        if one.state == "building" and one.runner_pid == connection.info.backend_pid:
            value(connection, "select wakelog.drop_build(%(build)s)", {"build": one.build})
    drop_left_behind(connection, PROJECTION)


def _serving(connection: "Connection[Any]") -> "Build":
    from wakelog.projections.builds import builds_of
    from wakelog.projections.rebuilding import serving

    return serving(builds_of(connection, [PROJECTION]), PROJECTION)
