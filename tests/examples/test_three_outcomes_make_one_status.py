"""The CI example posts one status per push, whatever the order, and however close together outcomes come."""

import itertools
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from wakelog import Event, Wakelog, append
from wakelog.testing import LogUnderTest
from wakelog.workflows import fork

CHECKS = ("tests", "lint", "security")


def _push_with_outcomes(database: str, conclusion: str = "success") -> list[Event]:
    with psycopg.connect(database) as connection:
        push = append(connection, "push", {"after": "abc123"})
        return [
            append(
                connection,
                f"{check}.completed",
                {"conclusion": conclusion, "summary": "fine"},
                source=check,
                correlation_id=push.correlation_id,
                causation_id=push.id,
            )
            for check in CHECKS
        ]


def _statuses(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            "select payload, causation_id from wakelog.events where type = 'ci.status'"
        ).fetchall()


def _until(held: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not held():
        assert time.monotonic() < until, "waited for 20 seconds in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_outcome_posts_the_status(
    ci_database: str, pipeline: Wakelog, order: tuple[int, ...]
) -> None:
    outcomes = _push_with_outcomes(ci_database)
    status = pipeline.agents["status"].handler
    for number, each in enumerate(order):
        assert len(_statuses(ci_database)) == 0, f"after {number} of 3"
        with psycopg.connect(ci_database) as connection:
            status(outcomes[each], SimpleNamespace(connection=connection))
    posted = _statuses(ci_database)
    assert len(posted) == 1
    assert posted[0][0]["state"] == "success"
    assert posted[0][0]["commit"] == "abc123"
    assert set(posted[0][0]["checks"]) == set(CHECKS)
    assert posted[0][1] == outcomes[order[-1]].id


@pytest.mark.parametrize("committed", [0, 1])
def test_outcomes_at_the_same_moment_wait_for_each_other(
    ci_database: str, pipeline: Wakelog, committed: int
) -> None:
    outcomes = _push_with_outcomes(ci_database)
    status = pipeline.agents["status"].handler
    for outcome in outcomes[:committed]:
        with psycopg.connect(ci_database) as connection:
            status(outcome, SimpleNamespace(connection=connection))

    def work(outcome: Event) -> None:
        with psycopg.connect(ci_database, application_name="outcome") as connection:
            status(outcome, SimpleNamespace(connection=connection))

    others = [threading.Thread(target=work, args=[outcome]) for outcome in outcomes[committed + 1 :]]
    with psycopg.connect(ci_database) as uncommitted:
        status(outcomes[committed], SimpleNamespace(connection=uncommitted))
        for thread in others:
            thread.start()
        with psycopg.connect(ci_database, autocommit=True) as connection:
            waiting = """select count(*) from pg_stat_activity
                         where application_name = 'outcome' and wait_event_type = 'Lock'"""
            _until(lambda: connection.execute(waiting).fetchone() == (len(others),))
    for thread in others:
        thread.join(20)
    assert len(_statuses(ci_database)) == 1


def test_an_outcome_that_comes_again_posts_nothing_more(ci_database: str, pipeline: Wakelog) -> None:
    outcomes = _push_with_outcomes(ci_database, "failure")
    status = pipeline.agents["status"].handler
    for outcome in [*outcomes, *outcomes]:
        with psycopg.connect(ci_database) as connection:
            status(outcome, SimpleNamespace(connection=connection))
    assert [payload["state"] for payload, _ in _statuses(ci_database)] == ["failure"]


def test_a_fork_makes_a_status_of_its_own(ci_database: str, pipeline: Wakelog) -> None:
    only_status = Wakelog("ci")
    only_status.agents["status"] = pipeline.agents["status"]
    with LogUnderTest(ci_database) as log:
        push = log.append("push", {"after": "abc123"})
        for check in CHECKS:
            log.append(
                f"{check}.completed", {"conclusion": "success", "summary": "fine"}, source=check,
                correlation_id=push.correlation_id, causation_id=push.id,
            )  # fmt: skip
            log.run_until_idle(only_status)
        (status,) = log.events("ci.status")
        last = next(e for e in log.events("*.completed") if e.id == status.causation_id)
        again = fork(log.connection, status.correlation_id, event=last.id, changes={"conclusion": "failure"})
        log.run_until_idle(only_status)
        first, second = log.events("ci.status")
    assert (first.payload["state"], second.payload["state"]) == ("success", "failure")
    assert second.correlation_id == again
    changed = last.type.split(".")[0]
    assert {name: result["outcome"] for name, result in second.payload["checks"].items()} == {
        check: "failure" if check == changed else "success" for check in CHECKS
    }
    assert second.payload["commit"] == "abc123"


def test_a_check_that_was_given_up_counts_as_an_error(ci_database: str, pipeline: Wakelog) -> None:
    outcomes = _push_with_outcomes(ci_database)
    with psycopg.connect(ci_database) as connection:
        given_up = append(
            connection,
            "lint.failed",
            {"reason": "max_attempts", "error": "no disk", "attempts": 3},
            source="lint",
            correlation_id=outcomes[1].correlation_id,
            causation_id=outcomes[1].causation_id,
        )
    status = pipeline.agents["status"].handler
    for outcome in (outcomes[0], given_up, outcomes[2]):
        with psycopg.connect(ci_database) as connection:
            status(outcome, SimpleNamespace(connection=connection))
    [(payload, _)] = _statuses(ci_database)
    assert payload["state"] == "failure"
    assert payload["checks"]["lint"] == {"outcome": "error", "summary": "no disk"}


def test_rules_say_which_checks_are_required(ci_database: str, pipeline: Wakelog) -> None:
    only_status = Wakelog("ci")
    only_status.agents["status"] = pipeline.agents["status"]
    with LogUnderTest(ci_database) as log:
        log.append("ci.rules", {"required": ["tests", "lint", "secruity"]}, stream="rules/tally")
        push = log.append("push", {"after": "abc123", "rules": "rules/tally"})
        for check in CHECKS:
            log.append(
                f"{check}.completed", {"conclusion": "success", "summary": "fine"}, source=check,
                correlation_id=push.correlation_id, causation_id=push.id,
            )  # fmt: skip
        log.run_until_idle(only_status)
        (first,) = log.events("ci.status")
        assert first.payload["state"] == "failure"
        assert first.payload["checks"]["secruity"]["outcome"] == "missing"

        log.append("ci.rules", {"required": ["tests"]}, stream="rules/tally")
        last = max(event.position or 0 for event in log.events("*.completed"))
        fork(log.connection, push.correlation_id, position=last)
        log.run_until_idle(only_status)
        _, second = log.events("ci.status")
        assert (second.payload["state"], set(second.payload["checks"])) == ("success", set(CHECKS))
