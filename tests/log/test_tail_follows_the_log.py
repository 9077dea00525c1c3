"""B5: a reader that starts anywhere gets all that follows, in order, once, and goes on after its connection is lost."""

import threading
from itertools import islice
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions, sequence, until, value

from wakelog.errors import BadInput, DatabaseUnreachable, SchemaMismatch
from wakelog.log.append import append, append_many
from wakelog.log.tail import Tail, tail

Connection = psycopg.Connection[Any]
POLL = 0.02


def take(reader: Tail, number: int) -> list[Any]:
    return [event.payload for event in islice(reader, number)]


def numbered(connection: Connection, numbers: range) -> None:
    append_many(connection, [{"type": "a", "payload": n} for n in numbers])


def test_from_now_on(database: str, observer: Connection) -> None:
    numbered(observer, range(1, 4))
    with tail(database, poll=POLL) as reader:
        numbered(observer, range(4, 7))
        assert take(reader, 3) == [4, 5, 6]
        numbered(observer, range(7, 8))
        assert take(reader, 1) == [7]
        assert reader.position == 7


@pytest.mark.parametrize(("start", "first"), [("beginning", 1), (1, 1), (3, 3), (6, 6), (0, 1)])
def test_from_a_position_without_gap_or_double(
    database: str, observer: Connection, start: Any, first: int
) -> None:
    numbered(observer, range(1, 6))
    with tail(database, start=start, poll=POLL) as reader:
        numbered(observer, range(6, 11))
        assert take(reader, 11 - first) == list(range(first, 11))


def test_from_a_moment(database: str, observer: Connection) -> None:
    numbered(observer, range(1, 3))
    sequence(observer)
    moment = value(observer, "select clock_timestamp()")
    numbered(observer, range(3, 5))
    with tail(database, start=moment, follow=False) as reader:
        assert [event.payload for event in reader] == [3, 4]


def test_what_is_there_and_no_more(database: str, observer: Connection) -> None:
    numbered(observer, range(1, 4))
    with tail(database, start="beginning", follow=False) as reader:
        assert [event.payload for event in reader] == [1, 2, 3]


def test_only_some_types(database: str, observer: Connection) -> None:
    with tail(database, start="beginning", types=["x.#", "b"], poll=POLL) as reader:
        for type in ("a", "x", "a", "x.y.z", "b", "xx"):
            append(observer, type, type)
        assert take(reader, 3) == ["x", "x.y.z", "b"]


def test_a_notification_is_enough(database: str, session: Sessions, observer: Connection) -> None:
    """The doorkeeper sequences and notifies: then nobody waits for the poll."""
    reader = tail(database, poll=600)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(take(reader, 1)))
    thread.start()
    until(
        lambda: value(
            observer,
            "select true from pg_stat_activity where application_name = 'wakelog tail'"
            " and state = 'idle' and wait_event = 'ClientRead' and datname = current_database()",
        ),
        "the reader waits",
    )
    append(observer, "a", 1)
    sequence(observer)
    observer.execute("notify wakelog_log")
    thread.join(timeout=10)
    reader.close()
    assert seen == [1]


def test_a_lost_connection_is_made_anew(database: str, observer: Connection) -> None:
    with tail(database, poll=POLL) as reader:
        for n in range(1, 4):
            append(observer, "a", n)
            assert take(reader, 1) == [n]
            observer.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'wakelog tail' and datname = current_database()"
            )
        append(observer, "a", 4)
        assert take(reader, 1) == [4]


def test_a_reader_without_the_right_to_sequence_sees_what_others_have_sequenced(
    database: str, observer: Connection
) -> None:
    observer.execute("create role only_reads login in role wakelog_reader")
    try:
        with tail(database.replace("postgres@", "only_reads@"), start="beginning", poll=POLL) as reader:
            append(observer, "a", 1)
            sequence(observer)
            assert take(reader, 1) == [1]
    finally:
        observer.execute("drop owned by only_reads")
        observer.execute("drop role only_reads")


def test_a_doorkeeper_is_left_to_do_the_sequencing(
    database: str, session: Sessions, observer: Connection
) -> None:
    doorkeeper = session()
    doorkeeper.execute("select pg_advisory_lock(wakelog.lock_space('doorkeeper'), 0)")
    append(observer, "a", 1)
    with tail(database, start="beginning", follow=False, poll=POLL) as reader:
        assert list(reader) == []


def test_what_is_wrong_is_said_at_once(database: str, empty_database: str) -> None:
    with pytest.raises(BadInput, match='expected "now"'):
        tail(database, start="yesterday")
    with pytest.raises(SchemaMismatch, match="wakelog db upgrade"):
        tail(empty_database)
    with pytest.raises(DatabaseUnreachable):
        tail("postgresql://nobody@127.0.0.1:1/x")
