"""What is private is read by those who may until its subject is forgotten; then by nobody, and the log is whole."""

import asyncio
import base64
import contextlib
import copy
import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import create_async_engine
from tests.log.sessions import Sessions, value, waiting_for_a_lock
from tests.worker.waiting import one, until

from wakelog import (
    FORGOTTEN,
    BadInput,
    NewEvent,
    SubjectForgotten,
    UnknownSubject,
    append,
    append_many,
    read,
    read_stream,
    tail,
)
from wakelog.integrity.sealing import seal_now
from wakelog.integrity.verification import verify
from wakelog.log.connections import translated
from wakelog.postgres.binaries import Binaries
from wakelog.postgres.schema import install
from wakelog.privacy import envelope
from wakelog.testing import ThrowawayPostgres

Connection = psycopg.Connection[Any]
ADA = {"name": "Ada Lovelace", "address": {"street": "St James's Square", "city": "London"}, "plan": "pro"}
PRIVATE = {"name": "customer-17", "address.street": "customer-17"}
GONE = {"name": FORGOTTEN, "address": {"street": FORGOTTEN, "city": "London"}, "plan": "pro"}
KEYS = "select count(*) from wakelog.subject_keys"


@pytest.fixture
def session(database: str) -> Iterator[Sessions]:
    sessions = Sessions(database)
    yield sessions
    sessions.close()


def append_ada(connection: Any, **more: Any) -> Any:
    return append(connection, "customer.joined", ADA, stream="customer-17", private=PRIVATE, **more)


def forget(connection: Connection, subject: str = "customer-17") -> bool:
    with translated():
        return value(connection, "select wakelog.forget(%s)", [subject])


def payloads(connection: Connection) -> list[Any]:
    value(connection, "select wakelog.sequence()")
    return [event.payload for event in read(connection)]


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


def test_in_the_database_there_is_only_what_is_encrypted(connection: Connection) -> None:
    append_ada(connection)
    text: str = value(connection, "select string_agg(e::text, '') from wakelog.events e")
    assert "London" in text
    assert "Ada" not in text
    assert "James" not in text
    assert value(connection, "select payload #>> '{name,$private,key}' from wakelog.events") == "1"
    assert value(connection, "select subject from wakelog.subjects where id = 1") == "customer-17"


def test_by_every_kind_of_connection(connection: Connection, database: str) -> None:
    driverless = database.removeprefix("postgresql://")
    for driver in ("psycopg", "psycopg2"):
        engine = sqlalchemy.create_engine(f"postgresql+{driver}://{driverless}")
        with engine.begin() as one_of_sqlalchemy:
            assert append_ada(one_of_sqlalchemy).payload == ADA
            assert (
                append_many(one_of_sqlalchemy, [{"type": "a", "payload": [1], "private": "customer-17"}]) == 1
            )
        with engine.begin() as one_of_sqlalchemy:
            assert [event.payload for event in read_stream(one_of_sqlalchemy, "customer-17")][-1] == ADA
        engine.dispose()

    async def over_asyncio() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            assert (await append_ada(own)).payload == ADA
            assert await append_many(own, [{"type": "a", "payload": [1], "private": "customer-17"}]) == 1
        engine = create_async_engine(f"postgresql+asyncpg://{driverless}")
        async with engine.begin() as one_of_sqlalchemy:
            assert (await append_ada(one_of_sqlalchemy)).payload == ADA
            found = [event.payload async for event in read_stream(one_of_sqlalchemy, "customer-17")]
            assert found == [ADA] * 4
        await engine.dispose()

    asyncio.run(over_asyncio())
    everything = payloads(connection)
    assert (everything.count(ADA), everything.count([1])) == (4, 3)
    forget(connection)
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{driverless}")
    with engine.begin() as one_of_sqlalchemy:
        assert [event.payload for event in read_stream(one_of_sqlalchemy, "customer-17")] == [GONE] * 4
    engine.dispose()


def test_a_connection_in_autocommit_makes_one_transaction_of_it(
    connection: Connection, database: str
) -> None:
    """Otherwise a subject could be forgotten between the asking for its key and the append."""
    append_ada(connection)

    async def over_asyncio() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as own:
            await append_ada(own)

    asyncio.run(over_asyncio())
    # The lock on the subject is of the transaction that appended.
    locked, appended = connection.execute(
        "select s.xmax::text, (select xid::text from wakelog.events order by seq desc limit 1) from wakelog.subjects s"
    ).fetchone() or (None, "")
    assert locked == appended


def test_many_at_once_keep_their_order_and_are_all_or_none(connection: Connection) -> None:
    events = [
        {
            "type": "a",
            "payload": {"n": n, "name": "Ada"},
            "private": {"name": f"customer-{n % 50}"} if n % 3 else None,
        }
        for n in range(700)
    ]
    assert append_many(connection, events) == 700
    assert payloads(connection) == [event["payload"] for event in events]
    assert value(connection, "select count(*) from wakelog.events where payload::text like '%%Ada%%'") == 234
    forget(connection, "customer-7")
    with pytest.raises(SubjectForgotten):
        append_many(connection, events)
    assert value(connection, "select count(*) from wakelog.events") == 700
    gone = [n for n, payload in enumerate(payloads(connection)) if payload["name"] is FORGOTTEN]
    assert gone == [n for n in range(700) if n % 3 and n % 50 == 7]


def test_a_repeated_key_returns_the_original_as_it_was(connection: Connection) -> None:
    first = append_ada(connection, idempotency_key="k")
    again = append(
        connection, "customer.joined", {"name": "x"}, idempotency_key="k", private={"name": "customer-17"}
    )
    assert (again.id, again.payload) == (first.id, ADA)
    plain = append(connection, "customer.joined", {}, idempotency_key="k")
    assert plain.payload == ADA


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
            while not stop.is_set():
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


@pytest.fixture
def as_role(session: Sessions, connection: Connection) -> Iterator[Callable[..., Connection]]:
    """Log in as somebody who was granted some of the roles."""
    connection.execute("create role somebody login")

    def log_in(*roles: str) -> Connection:
        for role in roles:
            connection.execute(sql.SQL("grant {} to somebody").format(sql.Identifier(role)))
        own = session()
        own.execute("set session authorization somebody")
        return own

    yield log_in
    session.close()
    connection.execute("drop role somebody")


def test_who_may_not_see_keys_sees_what_is_stored(
    as_role: Callable[..., Connection], connection: Connection
) -> None:
    append_ada(connection)
    value(connection, "select wakelog.sequence()")
    reader = as_role("wakelog_reader", "wakelog_worker")
    (event,) = read(reader)
    assert envelope.is_envelope(event.payload["name"])
    assert event.payload["plan"] == "pro"
    for statement in (
        "select * from wakelog.subject_keys", "select * from wakelog.keys_to_write('{customer-17}')",
        "select wakelog.forget('customer-17')", "select wakelog.new_key()",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        append_ada(reader)


def test_who_was_granted_keys_writes_and_reads_and_does_not_forget(
    as_role: Callable[..., Connection], connection: Connection
) -> None:
    one_of_them = as_role("wakelog_keys", "wakelog_writer", "wakelog_reader")
    assert append_ada(one_of_them).payload == ADA
    value(connection, "select wakelog.sequence()")
    assert [event.payload for event in read(one_of_them)] == [ADA]
    for statement in (
        "select wakelog.forget('customer-17')", "delete from wakelog.subject_keys",
        "update wakelog.subjects set forgotten_at = null", "insert into wakelog.subject_keys values (1, '')",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            one_of_them.execute(statement.encode())


def test_an_envelope_opens_only_in_its_event_and_its_place(connection: Connection) -> None:
    ada = append_ada(connection)
    stored = value(connection, "select payload from wakelog.events")
    moved = {"name": stored["address"]["street"], "address": {"street": stored["name"]}}
    box = bytearray(base64.b64decode(stored["name"]["$private"]["box"]))
    box[20] ^= 1
    other = {"$private": {"key": 1, "box": base64.b64encode(box).decode()}}
    for payload in (stored, moved, {"name": other}, {"name": {"$private": {"key": 1, "box": "?"}}}):
        connection.execute("insert into wakelog.events (type, payload) values ('a', %s)", [Jsonb(payload)])
    assert payloads(connection) == [
        ADA, stored, moved, {"name": other}, {"name": {"$private": {"key": 1, "box": "?"}}},
    ]  # fmt: skip
    # To another place of its own event, by a superuser.
    connection.execute("set session_replication_role = replica")
    connection.execute("update wakelog.events set payload = %s where id = %s", [Jsonb(moved), ada.id])
    assert payloads(connection)[0] == moved


@pytest.mark.parametrize(
    "payload",
    [
        {"$private": 1}, {"$private": {"key": "1", "box": ""}}, {"$private": {"key": 1}}, {"a": [{"$private": None}]},
        {"a": '"$private"'}, {"$private": {"key": 99, "box": "AAAA"}},
    ],
)  # fmt: skip
def test_what_only_looks_like_an_envelope_is_left_as_it_is(connection: Connection, payload: Any) -> None:
    append(connection, "a", payload, metadata={"$private": {"key": 1, "box": ""}})
    value(connection, "select wakelog.sequence()")
    (event,) = read(connection)
    assert (event.payload, event.metadata) == (payload, {"$private": {"key": 1, "box": ""}})


@pytest.mark.parametrize(
    ("private", "said"),
    [
        ({"nmae": "c"}, "found no 'nmae' there (but name, address, plan)"),
        ({"name.first": "c"}, "found no 'first' there (but str)"),
        ({"address": "c", "address.street": "d"}, "found 'address.street' inside 'address'"),
        ({"name": ""}, "expected None or some text"),
        ({"": "c"}, "expected None or some text"),
        (3, "private"),
    ],
)
def test_a_place_that_is_not_there_is_refused(connection: Connection, private: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(").replace(")", r"\)")):
        append(connection, "a", ADA, private=private)
    assert value(connection, "select count(*) from wakelog.events") == 0


def test_places_in_lists_and_odd_names(connection: Connection) -> None:
    payload = {"people": [{"a/b~c": "Ada"}, {"a/b~c": "Charles"}]}
    private = {"people.0.a/b~c": "customer-1", "people.1.a/b~c": "customer-2"}
    assert append(connection, "a", payload, private=private).payload == payload
    forget(connection, "customer-2")
    assert payloads(connection) == [{"people": [{"a/b~c": "Ada"}, {"a/b~c": FORGOTTEN}]}]


def test_private_events_are_said_in_every_way(connection: Connection) -> None:
    event = NewEvent(type="a", payload={"name": "Ada"}, private={"name": "customer-1"})
    assert append_many(connection, [event, {"type": "b", "payload": {"name": "Ada"}}]) == 2
    assert payloads(connection) == [{"name": "Ada"}] * 2
    assert value(connection, "select count(*) from wakelog.events where payload::text like '%%Ada%%'") == 1


def test_without_the_library_the_rest_works(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    append_ada(connection)
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(BadInput, match=r"pip install 'wakelog\[forget\]'"):
        append_ada(connection)
    (payload,) = payloads(connection)
    assert envelope.is_envelope(payload["name"])


def test_forgotten_is_one_thing_and_false_and_json() -> None:
    assert copy.deepcopy([FORGOTTEN]) == [FORGOTTEN] == pickle.loads(pickle.dumps([FORGOTTEN]))
    assert not FORGOTTEN
    assert repr(FORGOTTEN) == "FORGOTTEN"


def test_agents_see_what_their_role_may(
    connection: Connection, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    append_ada(connection)
    append(connection, "customer.joined", {"name": "Charles"}, private={"name": "customer-18"})
    append(connection, "customer.joined", {"name": "Grace"})
    forget(connection, "customer-18")
    start_workers("""
        @app.agent("greeter", on="customer.joined", start="beginning")
        async def greet(event, ctx): return {"name": event.payload["name"]}

        @app.agent("batches", on="customer.joined", start="beginning", batch=10)
        def greet_all(events, ctx): return [{"name": event.payload["name"]} for event in events]
    """)
    for agent in ("greeter", "batches"):
        answers = "select payload -> 'name' from wakelog.events where type = %s order by payload::text"
        until(lambda agent=agent: one(connection, "select count(*) = 3 from wakelog.events where type = %s",
                                      f"{agent}.completed"))  # fmt: skip
        found = [row[0] for row in connection.execute(answers, [f"{agent}.completed"]).fetchall()]
        assert sorted(map(json.dumps, found)) == sorted(
            map(json.dumps, [{"$forgotten": True}, "Ada Lovelace", "Grace"])
        )


def test_neither_keys_nor_values_are_in_the_servers_log(binaries: Binaries) -> None:
    """Which tells every statement, with its parameters."""
    told = {"log_statement": "all", "log_min_duration_statement": "0", "log_parameter_max_length": "-1"}
    with ThrowawayPostgres(binaries, settings=told) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            install(connection)
            append_ada(connection)
            append_many(connection, [{"type": "a", "payload": ADA, "private": PRIVATE}] * 3)
            payloads(connection)
            key = value(connection, "select key from wakelog.subject_keys")
            connection.execute("analyze wakelog.subject_keys")
            kept = value(
                connection,
                "select count(*) from pg_stats where tablename = 'subject_keys' and attname = 'key'",
            )
            forget(connection)
        log = server.log
    assert "keys_to_write" in log
    assert "customer.joined" in log
    assert "Ada" not in log
    assert "St James" not in log
    assert key.hex() not in log
    assert kept == 0
