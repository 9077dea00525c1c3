"""Where each run of the CI example stands is what its log says, however many events are folded at a time."""

from typing import Any

from wakelog import Event, Wakelog
from wakelog.testing import LogUnderTest
from wakelog_cli.rebuilding import as_it_was, compare


def _only_the_projection(pipeline: Wakelog) -> Wakelog:
    app = Wakelog("ci")
    app.projections["ci_runs"] = pipeline.projections["ci_runs"]
    return app


def _told(log: LogUnderTest, push: Event, type_: str, **payload: Any) -> None:
    log.append(type_, payload, correlation_id=push.correlation_id, causation_id=push.id)


def _runs(log: LogUnderTest) -> list[Any]:
    return log.connection.execute("select * from ci_runs.runs order by id").fetchall()


def test_the_runs_are_the_same_folded_one_by_one_and_at_once(database: str, pipeline: Wakelog) -> None:
    app = _only_the_projection(pipeline)
    with LogUnderTest(database) as log:
        first, second = log.append("push", {"after": "abc"}), log.append("push", {"after": "def"})
        for type_, payload in [
            ("tests.completed", {"conclusion": "failure"}),
            ("lint.failed", {"error": "no disk"}),
            ("tests.completed", {"conclusion": "success"}),  # after a retry by hand
            ("security.completed", {"conclusion": "success"}),
            ("ci.status", {"commit": "abc", "state": "failure", "checks": {}}),
        ]:
            _told(log, first, type_, **payload)
            log.run_until_idle(app)
        checks = {"tests": "success", "lint": "error", "security": "success"}
        finished = (str(first.id), "abc", checks, "failure")
        assert _runs(log) == [finished, (str(second.id), "def", {}, None)]
        verdict = compare(log.connection, log.url, "ci_runs", None, None, 1)
        assert (verdict.rows, verdict.difference) == (2, None)

        log.append("push", {})  # somebody else's, without a commit
        log.run_until_idle(app)
        assert [run[1] for run in _runs(log)] == ["abc", "def", None]


def test_a_run_can_be_seen_as_it_was(database: str, pipeline: Wakelog) -> None:
    app = _only_the_projection(pipeline)
    with LogUnderTest(database) as log:
        push = log.append("push", {"after": "abc"})
        _told(log, push, "lint.completed", conclusion="success")
        log.run_until_idle(app)
        _told(log, push, "ci.status", commit="abc", state="success")
        log.run_until_idle(app)
        then = as_it_was(log.connection, log.url, "ci_runs", None, None, 2)
        row = {"id": str(push.id), "commit": "abc", "checks": {"lint": "success"}, "state": None}
        assert then == {"runs": [row]}
        assert _runs(log) == [(str(push.id), "abc", {"lint": "success"}, "success")]
