"""A word misspelt, by a producer or in a pattern, can be seen."""

import psycopg
from tests.worker.asking import append, register, sequence


def unmatched(connection: psycopg.Connection) -> list[tuple[str, int]]:
    return connection.execute("select type, events from wakelog.unmatched").fetchall()  # pyright: ignore


def test_those_that_no_pattern_comes_to(connection: psycopg.Connection) -> None:
    register(connection, "agent", "order.*")
    append(connection, "order.paid", "oder.paid", "oder.paid", "order.item.added", "agent.completed")
    sequence(connection)
    assert unmatched(connection) == [("oder.paid", 2), ("order.item.added", 1)]
    register(connection, "other", "oder.#")
    assert unmatched(connection) == [("order.item.added", 1)]
    connection.execute("select wakelog.remove_agent('other')")
    assert len(unmatched(connection)) == 2
    register(connection, "auditor", "#")
    assert unmatched(connection) == []
