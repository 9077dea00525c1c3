"""Who was granted keys reads what is private; others see what is stored, agents too, and none of them forgets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.integrity.subject import ADA, Connection, append_ada, forget
from tests.log.sessions import Sessions, value
from tests.worker.waiting import one, until

from wakelog import (
    append,
    read,
)
from wakelog.privacy import envelope


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
