"""What was declared of a family of types holds for every append, by whatever means."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.worker.asking import claim, register, sequence, start_worker
from tests.worker.waiting import one, until

from wakelog import BadInput, UnknownType, Unroutable, Wakelog, append, append_many

INSERT = "insert into wakelog.events (type) values (%s)"


def declare(connection: psycopg.Connection, family: str, types: list[str] | None, must_match: bool) -> None:
    connection.execute("select wakelog.declare_family(%s, %s, %s)", [family, types, must_match])


def test_an_unknown_type_is_refused(connection: psycopg.Connection) -> None:
    declare(connection, "op", ["op.turn", "op.stop"], False)
    append(connection, "op.turn")
    append(connection, "option.a")
    with pytest.raises(UnknownType, match=r'the family "op" \(op.turn, op.stop\), found "op.trun"'):
        append(connection, "op.trun")
    with pytest.raises(UnknownType):
        append_many(connection, [{"type": "op.turn"}, {"type": "op"}])
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(INSERT, ["op.turn.twice"])
    assert refused.value.sqlstate == "WL009"
    assert one(connection, "select count(*) from wakelog.events") == 2
    declare(connection, "op", None, False)
    append(connection, "op.anything")


def test_an_event_that_no_agent_wants_is_refused(connection: psycopg.Connection) -> None:
    declare(connection, "order", None, True)
    register(connection, "agent", "order.*", sources=["shop/*"])
    append(connection, "order.paid", source="shop/eu")
    with pytest.raises(Unroutable, match=r'type "order.paid", and in the family "order" one must'):
        append(connection, "order.paid", source="elsewhere")
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(INSERT, ["order.item.added"])
    assert refused.value.sqlstate == "WL010"
    append(connection, "refund.paid")


def test_agents_tell_their_outcomes_whatever_is_declared(connection: psycopg.Connection) -> None:
    declare(connection, "order", ["order.placed"], True)
    register(connection, "order", "order.placed")
    worker = start_worker(connection, "order")
    connection.execute(INSERT, ["order.placed"])
    sequence(connection)
    for position, attempt, _ in claim(connection, "order", worker):
        connection.execute("select wakelog.ack('order', %s, %s, %s, '1')", [position, worker, attempt])
    assert one(connection, "select count(*) from wakelog.events where type = 'order.completed'") == 1


def test_an_application_declares_it(
    connection: psycopg.Connection, start_workers: Callable[..., Any]
) -> None:
    start_workers("""
        app.family("op", types=["op.turn"], must_match=True)
        @app.agent("agent", on="op.*")
        async def work(event, ctx): ...
    """)
    until(lambda: one(connection, "select count(*) from wakelog.families"))
    append(connection, "op.turn")
    with pytest.raises(UnknownType):
        append(connection, "op.other")


def test_a_declaration_that_says_nothing_or_nonsense_is_refused(connection: psycopg.Connection) -> None:
    app = Wakelog("test")
    with pytest.raises(BadInput, match="found neither"):
        app.family("op")
    with pytest.raises(BadInput, match=r"begin with .op., found 'opus.a'"):
        app.family("op", types=["op.turn", "opus.a"])
    with pytest.raises(psycopg.Error, match=r'begin with "op", found "opus.a"'):
        declare(connection, "op", ["opus.a"], False)
