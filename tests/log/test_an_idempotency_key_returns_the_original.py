"""Appending twice under one key is appending once, and both callers get the same event."""

import threading
from typing import Any

import psycopg
from tests.log.races import append_with_one_key, race
from tests.log.sessions import Sessions, value, waiting_for_a_lock

from wakelog.log.append import append, append_many
from wakelog.log.event import Event


def test_the_second_call_returns_the_first_event(observer: psycopg.Connection[Any]) -> None:
    first = append(observer, "order.placed", {"n": 1}, source="shop", idempotency_key="k", stream="s")
    again = append(observer, "order.placed", {"n": 2}, source="shop", idempotency_key="k", stream="s")
    assert again == first
    assert value(observer, "select count(*) from wakelog.events") == 1


def test_the_key_comes_before_the_expected_version(observer: psycopg.Connection[Any]) -> None:
    first = append(observer, "a", stream="s", expected_version=0, idempotency_key="k")
    assert append(observer, "a", stream="s", expected_version=0, idempotency_key="k") == first


def test_another_source_has_keys_of_its_own(observer: psycopg.Connection[Any]) -> None:
    one = append(observer, "a", source="x", idempotency_key="k")
    assert append(observer, "a", source="y", idempotency_key="k").id != one.id


def test_of_twenty_processes_all_get_one_event(database: str, observer: psycopg.Connection[Any]) -> None:
    results = race(database, append_with_one_key, 20)
    assert len({id for id, _ in results}) == 1
    assert len({payload["by"] for _, payload in results}) == 1
    assert value(observer, "select count(*) from wakelog.events") == 1


def test_a_caller_waits_for_the_one_ahead_and_takes_over_when_it_rolls_back(
    session: Sessions, observer: psycopg.Connection[Any]
) -> None:
    first, second = session(autocommit=False), session()
    append(first, "a", {"by": "first"}, idempotency_key="k")
    got: list[Event] = []
    thread = threading.Thread(
        target=lambda: got.append(append(second, "a", {"by": "second"}, idempotency_key="k"))
    )
    thread.start()
    waiting_for_a_lock(observer)
    first.rollback()
    thread.join()
    assert got[0].payload == {"by": "second"}
    assert value(observer, "select count(*) from wakelog.events") == 1


def test_many_with_known_keys_add_only_the_new_ones(observer: psycopg.Connection[Any]) -> None:
    events = [{"type": "a", "idempotency_key": str(n)} for n in range(5)]
    assert append_many(observer, events[:3]) == 3
    assert append_many(observer, events) == 5
    assert value(observer, "select count(*) from wakelog.events") == 5
