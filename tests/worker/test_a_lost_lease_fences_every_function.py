"""Whoever does not hold (worker, attempt) under a running lease can change nothing, whichever function it calls."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from tests.worker.sql_worker import Token, append, claim, register, start_worker, turn_clock
from tests.worker.waiting import one

Call = Callable[[psycopg.Connection, Token], Any]
LEASE_LOST = "WL002"


def ack(connection: psycopg.Connection, held: Token) -> None:
    connection.execute(
        "select wakelog.ack(%s, %s, %s, %s, '{}', %s)",
        [held.agent, held.position, held.worker, held.attempt, _child(held)],
    )


def fail(connection: psycopg.Connection, held: Token) -> None:
    connection.execute(
        "select wakelog.fail(%s, %s, %s, %s, 'no')", [held.agent, held.position, held.worker, held.attempt]
    )


def give_up(connection: psycopg.Connection, held: Token) -> None:
    connection.execute(
        "select wakelog.fail(%s, %s, %s, %s, 'no', p_final => true)",
        [held.agent, held.position, held.worker, held.attempt],
    )


def extend(connection: psycopg.Connection, held: Token) -> None:
    connection.execute(
        "select wakelog.extend(%s, %s, %s, %s, '1 hour')",
        [held.agent, held.position, held.worker, held.attempt],
    )


def record_step(connection: psycopg.Connection, held: Token) -> None:
    connection.execute(
        "select wakelog.record_step(%s, %s, %s, %s, 'charge', '1')",
        [held.agent, held.position, held.worker, held.attempt],
    )


def ack_many(connection: psycopg.Connection, held: Token) -> int:
    return one(
        connection, "select count(*) from wakelog.ack_many(%s, %s, %s, %s, %s)",
        held.agent, held.worker, [held.position], [held.attempt], _child(held),
    )  # fmt: skip


def release(connection: psycopg.Connection, held: Token) -> int:
    return one(
        connection, "select wakelog.release(%s, %s, %s, %s)",
        held.agent, held.worker, [held.position], [held.attempt],
    )  # fmt: skip


def stall(connection: psycopg.Connection, held: Token) -> int:
    return one(
        connection, "select wakelog.stall(%s, %s, %s, %s, 'gone')",
        held.agent, held.worker, [held.position], [held.attempt],
    )  # fmt: skip


def heartbeat(connection: psycopg.Connection, held: Token) -> int:
    return one(
        connection,
        "select wakelog.heartbeat(%s, %s, %s, '1 hour')",
        held.worker,
        [held.agent],
        [held.position],
    )


REFUSED: list[Call] = [ack, fail, give_up, extend, record_step]
LEAVES_OUT: list[Call] = [ack_many, release, stall, heartbeat]


def taken_over(connection: psycopg.Connection, mine: Token) -> Token:
    turn_clock(connection, 31)
    (theirs,) = claim(connection, mine.agent, start_worker(connection, mine.agent))
    assert (theirs.position, theirs.attempt) == (mine.position, mine.attempt + 1)
    return mine


def taken_back(connection: psycopg.Connection, mine: Token) -> Token:
    """The same worker has it again, and the first of its two threads speaks."""
    turn_clock(connection, 31)
    (again,) = claim(connection, mine.agent, mine.worker)
    assert again == replace(mine, attempt=2)
    return mine


def lease_over_and_nobody_came(connection: psycopg.Connection, mine: Token) -> Token:
    turn_clock(connection, 30.001)
    return mine


def somebody_else(connection: psycopg.Connection, mine: Token) -> Token:
    return replace(mine, worker=start_worker(connection, mine.agent))


def finished_already(connection: psycopg.Connection, mine: Token) -> Token:
    ack(connection, mine)
    return mine


def found_dead(connection: psycopg.Connection, mine: Token) -> Token:
    connection.execute("select wakelog.stop_worker(%s)", [mine.worker])
    return mine


LOST = [taken_over, taken_back, lease_over_and_nobody_came, somebody_else, finished_already, found_dead]


@pytest.fixture
def mine(connection: psycopg.Connection) -> Token:
    register(connection, "agent")
    append(connection)
    (held,) = claim(connection, "agent", start_worker(connection, "agent"))
    return held


@pytest.mark.parametrize("lose", LOST, ids=lambda f: f.__name__)
def test_a_lost_lease_is_refused(connection: psycopg.Connection, mine: Token, lose: Any) -> None:
    """Every function, one after the other: none of them changes anything."""
    stale = lose(connection, mine)
    before = everything(connection)
    for function in REFUSED:
        with pytest.raises(psycopg.Error) as refused:
            function(connection, stale)
        assert refused.value.sqlstate == LEASE_LOST, function.__name__
        assert refused.value.diag.message_hint, function.__name__
        assert everything(connection) == before, function.__name__


@pytest.mark.parametrize("lose", LOST, ids=lambda f: f.__name__)
def test_batches_leave_out_what_was_lost(connection: psycopg.Connection, mine: Token, lose: Any) -> None:
    stale = lose(connection, mine)
    before = everything(connection)
    for function in LEAVES_OUT:
        if function is heartbeat and lose in (taken_back, found_dead):
            continue  # it speaks for the worker, not for one of its attempts; a dead one is told, see below
        assert function(connection, stale) == 0, function.__name__
        assert everything(connection) == before, function.__name__


def test_a_worker_found_dead_is_told_so(connection: psycopg.Connection, mine: Token) -> None:
    found_dead(connection, mine)
    for call in (heartbeat, lambda c, held: claim(c, held.agent, held.worker)):
        with pytest.raises(psycopg.Error) as refused:
            call(connection, mine)
        assert refused.value.sqlstate == "WL007"


def test_whoever_holds_it_may(connection: psycopg.Connection, mine: Token) -> None:
    """The same calls, by the holder, do change something; or the tests above would show nothing."""
    before = everything(connection)
    for function in (*REFUSED, *LEAVES_OUT):
        with connection.transaction(force_rollback=True):
            function(connection, mine)
            assert everything(connection) != before, function.__name__


def test_the_rest_of_a_batch_is_finished(connection: psycopg.Connection) -> None:
    register(connection, "agent")
    append(connection, 3)
    first, second, third = claim(connection, "agent", start_worker(connection, "agent"), 3)
    connection.execute(
        "update wakelog.deliveries set worker = worker + 1 where position = %s", [second.position]
    )
    acked = connection.execute(
        "select * from wakelog.ack_many('agent', %s, %s, '{1, 1, 1}', jsonb_build_array("
        "jsonb_build_object('position', 1, 'key', 'a', 'type', 'said'),"
        "jsonb_build_object('position', 2, 'key', 'a', 'type', 'said')))",
        [first.worker, [first.position, second.position, third.position]],
    ).fetchall()
    assert sorted(acked) == [(1,), (3,)]
    assert one(connection, "select count(*) from wakelog.events where type = 'said'") == 1


def everything(connection: psycopg.Connection) -> list[Any]:
    """All that these functions could change, but for the signs of life."""
    return connection.execute(
        "select (select jsonb_agg(to_jsonb(d)) from wakelog.deliveries d),"
        "       (select jsonb_agg(to_jsonb(d)) from wakelog.dead d),"
        "       (select jsonb_agg(to_jsonb(h)) from wakelog.history h),"
        "       (select jsonb_agg(to_jsonb(s)) from wakelog.steps s),"
        "       (select jsonb_agg(to_jsonb(w) - 'seen_at' order by id) from wakelog.worker_sessions w),"
        "       (select count(*) from wakelog.events)"
    ).fetchall()


def _child(held: Token) -> str:
    return f'[{{"position": {held.position}, "key": "child", "type": "child"}}]'
