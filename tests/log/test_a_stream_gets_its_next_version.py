"""An event that names its stream and no version gets the next one, and the log keeps their order."""

import random
import threading
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions, insert, log_ids, sequence, value, waiting_for_a_lock

WRITERS = 16
EACH = 25


@pytest.mark.every_postgres
def test_versions_follow_each_other_in_the_log_under_sixteen_writers(
    session: Sessions, observer: psycopg.Connection[Any]
) -> None:
    connections = [session(autocommit=False) for _ in range(WRITERS)]
    committed = [0] * WRITERS

    def write(n: int) -> None:
        chance = random.Random(n)
        for _ in range(EACH):
            insert(connections[n], stream="busy")
            if chance.random() < 0.3:
                connections[n].rollback()
            else:
                connections[n].commit()
                committed[n] += 1

    threads = [threading.Thread(target=write, args=[n]) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sequence(observer)
    sequence(observer)
    in_log_order = [
        version
        for (version,) in observer.execute(
            "select version from wakelog.log_events order by position"
        ).fetchall()
    ]
    assert in_log_order == list(range(1, sum(committed) + 1))


def test_a_writer_that_began_first_and_came_second_is_second_in_the_log(
    session: Sessions, observer: psycopg.Connection[Any]
) -> None:
    first, second = session(autocommit=False), session(autocommit=False)
    ahead = insert(first, stream="s")
    late: list[Any] = []
    thread = threading.Thread(target=lambda: late.append(insert(second, stream="s")))
    thread.start()
    waiting_for_a_lock(observer)
    further = insert(first, stream="s")
    first.commit()
    thread.join()
    second.commit()
    sequence(observer)
    assert log_ids(observer) == [ahead, further, late[0]]


def test_different_streams_do_not_wait_for_each_other(session: Sessions) -> None:
    one, other = session(autocommit=False), session(autocommit=False)
    insert(one, stream="a")
    other.execute("set lock_timeout = '2s'")
    insert(other, stream="b")


def test_the_last_version_is_that_of_the_stream(observer: psycopg.Connection[Any]) -> None:
    for _ in range(3):
        insert(observer, stream="s")
    assert value(observer, "select wakelog.stream_version('s')") == 3
    assert value(observer, "select wakelog.stream_version('other')") == 0
