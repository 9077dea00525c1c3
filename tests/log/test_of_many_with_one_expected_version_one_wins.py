"""B2: optimistic concurrency, between processes."""

import threading
from collections import Counter
from typing import Any

import psycopg
import pytest
from tests.log.races import append_expecting_nothing, race
from tests.log.sessions import Sessions, insert, value, waiting_for_a_lock

from wakelog.errors import BadInput, VersionConflict
from wakelog.log.append import append, append_many


def test_of_twenty_processes_one_wins(database: str, observer: psycopg.Connection[Any]) -> None:
    results = Counter(race(database, append_expecting_nothing, 20))
    assert results == {"won": 1, "VersionConflict": 19}
    assert value(observer, "select count(*) from wakelog.events") == 1


def test_an_expectation_holds_the_stream_until_the_transaction_ends(
    session: Sessions, observer: psycopg.Connection[Any]
) -> None:
    expecting, other = session(autocommit=False), session()
    append(expecting, "a", stream="s", expected_version=0)
    # Whoever only wants the next version waits for it, rather than run into a conflict.
    thread = threading.Thread(target=insert, args=[other, "b", "s"])
    thread.start()
    waiting_for_a_lock(observer)
    append(expecting, "a", stream="s", expected_version=1)
    expecting.commit()
    thread.join()
    rows = observer.execute("select type, version from wakelog.events order by version").fetchall()
    assert rows == [("a", 1), ("a", 2), ("b", 3)]


def test_the_conflict_says_both_versions(observer: psycopg.Connection[Any]) -> None:
    append(observer, "a", stream="s", expected_version=0)
    with pytest.raises(VersionConflict, match='stream "s" is at version 1, expected 7'):
        append(observer, "a", stream="s", expected_version=7)
    assert append(observer, "a", stream="s", expected_version=1).version == 2


def test_a_taken_version_is_a_conflict(observer: psycopg.Connection[Any]) -> None:
    insert = "insert into wakelog.events (type, stream, version) values ('a', 's', 1)"
    observer.execute(insert)
    with pytest.raises(psycopg.errors.UniqueViolation, match="events_one_per_version"):
        observer.execute(insert)


def test_one_conflict_refuses_all_of_many(observer: psycopg.Connection[Any]) -> None:
    append(observer, "a", stream="s")
    events = [{"type": "b"}, {"type": "b", "stream": "s", "expected_version": 0}, {"type": "b"}]
    with pytest.raises(VersionConflict):
        append_many(observer, events)
    assert value(observer, "select count(*) from wakelog.events where type = 'b'") == 0


def test_an_expected_version_needs_a_stream(session: Sessions) -> None:
    with pytest.raises(BadInput, match="needs a stream"):
        append(session(), "a", expected_version=0)
