"""Each part of the demo's second half says so where something did not come out right, and the demo would fail."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from wakelog import Context, Event, Wakelog, append
from wakelog.agents.load import load_app
from wakelog.testing import LogUnderTest
from wakelog_cli.demo_facts import CHECKS, Progress, Push, TakeOver, Working, look
from wakelog_cli.demo_fork import fork_after_the_fix
from wakelog_cli.demo_kill import Kill
from wakelog_cli.demo_repository import Commit, Repository, examples_folder
from wakelog_cli.demo_runs import make_anew, require_our_own, show_the_past
from wakelog_cli.demo_screen import Screen
from wakelog_cli.demo_seals import seal_and_verify
from wakelog_cli.demo_workers import Workers
from wakelog_cli.failures import ExitCode, Failure

COMMIT = Commit("abc1234567", None, "Ada", "2026-11-27T14:30:00Z", "Count", 3)
REPOSITORY = Repository(Path("/nowhere"), "tally", [COMMIT], "made up")


@pytest.fixture
def app() -> Wakelog:
    """The pipeline, with checks that cost nothing."""
    pipeline = load_app(str(examples_folder() / "ci_pipeline.py"))
    app = Wakelog("ci")
    for check in CHECKS:

        @app.agent(check, on="push")
        def passes(event: Event, ctx: Context) -> dict[str, Any]:
            return {"conclusion": "success", "summary": "fine"}

    app.agents["status"] = pipeline.agents["status"]
    app.projections["ci_runs"] = pipeline.projections["ci_runs"]
    return app


@pytest.fixture
def log(database: str) -> Iterator[LogUnderTest]:
    with LogUnderTest(database) as log:
        log.connection.execute((examples_folder() / "ci_tables.sql").read_bytes())
        yield log


def _pushed(log: LogUnderTest, app: Wakelog) -> Progress:
    """What the demo knows after its first half, with one push."""
    payload = {"after": COMMIT.sha, "repository": {"path": "/nowhere"}, "test_limit": 10}
    push = log.append("push", payload)
    log.run_until_idle(app)
    progress = Progress([Push(str(push.id), COMMIT)])
    look(log.connection, progress)
    assert progress.finished
    return progress


def _killed(progress: Progress, position: int) -> Kill:
    (push,) = progress.pushes
    scan = Working(push.event_id, "security", 1, 1, "running", 1, "host:1", 3, 1, 3, 1)
    return Kill(push, scan, 1, datetime.now(UTC), position, TakeOver(2, 2, timedelta(seconds=1)))


class _Idle:
    """Workers that do what there is to do whenever they are looked after."""

    def __init__(self, log: LogUnderTest, app: Wakelog) -> None:
        self._log, self._app = log, app

    def require_running(self) -> None:
        self._log.run_until_idle(self._app)


def _forked(
    log: LogUnderTest, app: Wakelog, progress: Progress, screen: Screen, scratch: Path
) -> dict[str, Any]:
    workers = cast("Workers", _Idle(log, app))
    return fork_after_the_fix(log.connection, REPOSITORY, progress, workers, screen, scratch)


def test_a_row_that_is_not_what_the_log_says(
    log: LogUnderTest, app: Wakelog, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = _pushed(log, app)
    log.connection.execute("update ci_runs.runs set state = 'failure'")
    facts = make_anew(log.url, progress, Screen("lines"))
    assert (facts["ok"], facts["replaced"], facts["same_before_and_after"]) == (False, True, False)
    assert "Expected the runs after the rebuild as before" in capsys.readouterr().out

    facts = make_anew(log.url, progress, Screen("lines"))
    assert facts["ok"] is True
    assert facts["runs"][progress.ids[0]] == {
        "commit": COMMIT.sha, "checks": dict.fromkeys(CHECKS, "success"), "state": "success",
    }  # fmt: skip
    assert "Identical before and after" in capsys.readouterr().out


def test_a_middle_in_which_everything_was_finished(log: LogUnderTest, app: Wakelog) -> None:
    progress = _pushed(log, app)
    first, last = progress.events[0]["position"], progress.read_up_to
    long_ago, middle = show_the_past(log.url, progress, _killed(progress, first), Screen("silent"))
    assert (long_ago["ok"], long_ago["runs"]) == (True, {})
    assert (middle["ok"], middle["unfinished"]) == (True, 1)
    assert middle["runs"][progress.ids[0]]["checks"] == {}

    _, middle = show_the_past(log.url, progress, _killed(progress, last), Screen("silent"))
    assert (middle["ok"], middle["unfinished"]) == (False, 0)


def test_work_that_a_fork_does_again(
    log: LogUnderTest, app: Wakelog, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    progress = _pushed(log, app)
    facts = _forked(log, app, progress, Screen("lines"), tmp_path)
    assert facts["commit"] == COMMIT.sha
    assert (facts["ok"], facts["done_anew"], facts["untouched"]) == (True, ["status"], True)
    assert (facts["before"]["state"], facts["after"]["state"]) == ("failure", "success")
    assert "Expected" not in capsys.readouterr().out

    @app.agent("again", on=[f"{check}.completed" for check in CHECKS])
    def again(event: Event, ctx: Context) -> None:
        append(
            ctx.connection, "ci.status", {"state": "success", "checks": {}}, source="again",
            idempotency_key=event.correlation_id, correlation_id=event.correlation_id, causation_id=event.id,
        )  # fmt: skip

    @app.agent("meddler", on="ci.status")
    def meddler(event: Event, ctx: Context) -> None:
        parent = ctx.connection.execute(
            "select parent from wakelog.forks where correlation_id = %s", [event.correlation_id]
        ).fetchone()
        if parent is not None:
            append(ctx.connection, "note", {}, correlation_id=parent[0])

    facts = _forked(log, app, progress, Screen("lines"), tmp_path)
    assert (facts["ok"], facts["untouched"]) == (False, False)
    assert (facts["statuses"], facts["done_anew"]) == (2, ["again", "meddler", "status"])
    said = capsys.readouterr().out
    assert "Expected one status of the fork, found 2." in said
    assert "Expected only status to work in the fork, found again, meddler, status." in said
    assert "to change, found that something did." in said


def test_a_commit_whose_checks_take_long_is_not_pushed_again(
    log: LogUnderTest, app: Wakelog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    progress = _pushed(log, app)
    monkeypatch.setattr("wakelog_cli.demo_fork._QUICK", timedelta(0))
    facts = _forked(log, app, progress, Screen("silent"), tmp_path)
    assert (facts["ok"], facts["commit"]) == (True, "87c1db9f83c1f751df28c289d9ebbc063c1bff4a")


def test_an_event_that_was_changed(
    log: LogUnderTest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wakelog_cli.demo_seals._PATIENCE", 0.0)
    for n in range(3):
        log.append("push", {"n": n})
    log.events()
    facts = seal_and_verify(log.url, 1, 3, Screen("lines"))
    assert (facts["ok"], facts["events"], facts["seals"], facts["sealed_now"]) == (True, 3, 1, 3)
    assert "3 events in 1 seal as sealed" in capsys.readouterr().out
    assert seal_and_verify(log.url, 1, 4, Screen("lines"))["ok"] is False
    assert "Expected the log to be sealed up to position 4, found it so up to 3." in capsys.readouterr().out

    with log.connection.transaction():
        log.connection.execute("set local session_replication_role = replica")
        log.connection.execute("""update wakelog.events set payload = '{"n": 7}' where seq = 2""")
    facts = seal_and_verify(log.url, 1, 3, Screen("lines"))
    assert (facts["ok"], facts["finding"]["position"]) == (False, 2)
    assert "NOT AS SEALED" in capsys.readouterr().out


def test_somebody_elses_projection_of_that_name(log: LogUnderTest, app: Wakelog) -> None:
    require_our_own(log.connection)
    theirs = Wakelog("theirs")
    theirs.projection(
        "ci_runs", tables="create table t (n int)", sql="insert into t select 1 from new_events"
    )
    log.run_until_idle(theirs)
    with pytest.raises(Failure, match="version 1 is not what it was") as refused:
        require_our_own(log.connection)
    assert refused.value.code == ExitCode.CONFLICT

    log.connection.execute("select wakelog.drop_projection('ci_runs')")
    log.run_until_idle(app)
    require_our_own(log.connection)
    log.connection.execute("select wakelog.pause_projection('ci_runs')")
    with pytest.raises(Failure, match="found: ci_runs paused"):
        require_our_own(log.connection)
