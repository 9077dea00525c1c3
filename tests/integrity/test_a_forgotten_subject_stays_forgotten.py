"""What is private is read until its subject is forgotten; then by nobody, and the log is whole."""

import contextlib
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.integrity.subject import ADA, GONE, KEYS, Connection, append_ada, forget, payloads
from tests.log.sessions import Sessions, value, waiting_for_a_lock

from wakelog import (
    FORGOTTEN,
    SubjectForgotten,
    UnknownSubject,
    append,
    read,
    read_stream,
    tail,
)
from wakelog.integrity.sealing import seal_now
from wakelog.integrity.verification import verify


def test_it_is_read_as_it_was_given_until_it_is_forgotten(connection: Connection, database: str) -> None:
    assert append_ada(connection).payload == ADA
    append(connection, "note.taken", ["all", "of", "it"], private="customer-17")
    append(connection, "note.taken", {"of": "another"}, private={"of": "customer-18"})
    append(connection, "plain", {"nothing": "private"})
    whole = [ADA, ["all", "of", "it"], {"of": "another"}, {"nothing": "private"}]
    assert payloads(connection) == whole
    list(seal_now(connection))

    assert forget(connection) is True
    after = [GONE, FORGOTTEN, {"of": "another"}, {"nothing": "private"}]
    assert payloads(connection) == after
    assert [event.payload for event in read_stream(connection, "customer-17")] == [GONE]
    with tail(database, start="beginning", follow=False) as followed:
        assert [event.payload for event in followed] == after
    assert value(connection, KEYS) == 1
    seen = verify(connection)
    assert (seen.finding, seen.events) == (None, 4)


def test_nothing_is_written_about_a_forgotten_one(connection: Connection) -> None:
    append_ada(connection)
    assert forget(connection)
    assert not forget(connection)
    with pytest.raises(SubjectForgotten, match='subject "customer-17" was forgotten at'):
        append_ada(connection)
    assert value(connection, KEYS) == 0
    append(connection, "customer.joined", ADA, private={"name": "customer-17/2"})
    assert (
        value(connection, "select subject from wakelog.subjects where forgotten_at is not null")
        == "customer-17"
    )


def test_whom_nobody_wrote_about_cannot_be_forgotten(connection: Connection) -> None:
    with pytest.raises(UnknownSubject, match='no subject "custmer-17"'):
        forget(connection, "custmer-17")
    assert value(connection, "select count(*) from wakelog.subjects") == 0


@pytest.mark.parametrize("is_new", [True, False])
def test_a_forgetting_waits_for_those_who_are_writing(
    session: Sessions, connection: Connection, is_new: bool
) -> None:
    if not is_new:
        append_ada(connection)
    writing, forgetting = session(autocommit=False), session()
    append_ada(writing)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(forget(forgetting)))
    thread.start()
    waiting_for_a_lock(connection)
    writing.commit()
    thread.join()
    assert done == [True]
    assert payloads(connection)[-1] == GONE
    assert value(connection, KEYS) == 0


def test_who_writes_waits_for_a_forgetting_and_is_refused(session: Sessions, connection: Connection) -> None:
    append_ada(connection)
    forgetting, writing = session(autocommit=False), session()
    assert forget(forgetting)
    refused: list[Exception] = []

    def write() -> None:
        try:
            append_ada(writing)
        except SubjectForgotten as error:
            refused.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    waiting_for_a_lock(connection)
    forgetting.commit()
    thread.join()
    assert len(refused) == 1
    assert value(connection, "select count(*) from wakelog.events") == 1


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("is_new", [True, False])
def test_an_old_snapshot_brings_no_key_back(
    session: Sessions, connection: Connection, level: str, is_new: bool
) -> None:
    """A transaction that began before the forgetting, and cannot see it."""
    if not is_new:
        append_ada(connection)
    old = session(autocommit=False)
    old.execute(sql.SQL("set transaction isolation level {}").format(sql.SQL(level)))  # pyright: ignore
    old.execute("select 1 from wakelog.events")
    if is_new:
        append_ada(connection)
    forget(connection)
    with pytest.raises((SubjectForgotten, psycopg.errors.SerializationFailure)):
        append_ada(old)
    old.rollback()
    assert value(connection, KEYS) == 0


def test_in_a_race_nothing_readable_is_left(connection: Connection, database: str) -> None:
    """Many write about few, who are forgotten meanwhile: no key comes back, and no event stays readable."""
    stop = threading.Event()

    def write(seed: int) -> int:
        written = 0
        with psycopg.connect(database, autocommit=True) as writing:
            while not written or not stop.is_set():
                subject = f"customer-{seed % 2}-{written // 5}"
                with contextlib.suppress(SubjectForgotten):
                    append(writing, "a", {"name": "Ada"}, private={"name": subject})
                written += 1
        return written

    def erase(_: int) -> int:
        done = 0
        with psycopg.connect(database, autocommit=True) as forgetting:
            while done < 25 and not stop.is_set():
                for (subject,) in forgetting.execute(
                    "select subject from wakelog.subjects where forgotten_at is null"
                ).fetchall():
                    done += forget(forgetting, subject)
        return done

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(write, seed) for seed in range(4)]
        erasers = [threads.submit(erase, n) for n in range(2)]
        try:
            assert sum(eraser.result(30) for eraser in erasers) >= 50
        finally:
            stop.set()
        assert all(writer.result(30) for writer in writers)
    ids = "select array_agg(id) from wakelog.subjects where forgotten_at is {} null"
    left = "select count(*) from wakelog.subject_keys where subject_id = any (%s)"
    assert value(connection, left, [value(connection, ids.format("not"))]) == 0  # pyright: ignore
    forgotten = set(value(connection, ids.format("not")))  # pyright: ignore
    stored = connection.execute(
        "select (payload #>> '{name,$private,key}')::bigint from wakelog.events order by seq"
    ).fetchall()
    for (key,), payload in zip(stored, sorted_by_seq(connection), strict=True):
        assert (payload["name"] is FORGOTTEN) == (key in forgotten)


def sorted_by_seq(connection: Connection) -> list[Any]:
    while value(connection, "select wakelog.sequence()") is None:
        pass
    positions = connection.execute("select position from wakelog.log order by seq").fetchall()
    by_position = {event.position: event.payload for event in read(connection)}
    return [by_position[position] for (position,) in positions]


def test_forgotten_is_one_thing_and_false_and_json() -> None:
    assert copy.deepcopy([FORGOTTEN]) == [FORGOTTEN] == pickle.loads(pickle.dumps([FORGOTTEN]))
    assert not FORGOTTEN
    assert repr(FORGOTTEN) == "FORGOTTEN"
