"""What is private is a place in a payload: its envelope opens there and nowhere else, and no other place is meant."""

import base64
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from tests.integrity.subject import ADA, Connection, append_ada, forget, payloads
from tests.log.sessions import value

from wakelog import (
    FORGOTTEN,
    BadInput,
    append,
    read,
)


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
