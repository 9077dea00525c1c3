"""B1: nobody changes what happened, whoever asks."""

from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.log.sessions import Sessions, insert, value

from wakelog.errors import AppendOnly, translate

CHANGES = [
    "update wakelog.events set payload = '{}'",
    "update wakelog.events set type = type",
    "delete from wakelog.events",
    "truncate wakelog.events",
    "truncate wakelog.events cascade",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_superuser_is_refused(observer: psycopg.Connection[Any], change: str) -> None:
    insert(observer)
    with pytest.raises(psycopg.Error) as refused:
        observer.execute(change.encode())
    assert isinstance(translate(refused.value), AppendOnly)
    assert value(observer, "select count(*) from wakelog.events") == 1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", ["wakelog_writer", "wakelog_reader", "wakelog_worker"])
def test_every_role_is_refused(session: Sessions, role: str, change: str) -> None:
    connection = session()
    insert(connection)
    connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(change.encode())


def test_an_upsert_is_refused_too(observer: psycopg.Connection[Any]) -> None:
    id = insert(observer)
    with pytest.raises(psycopg.Error, match="append-only"):
        observer.execute(
            "insert into wakelog.events (id, type) values (%s, 'b') on conflict (id) do update set type = 'c'",
            [id],
        )
