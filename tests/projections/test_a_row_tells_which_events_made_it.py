"""For each row of state, the events that wrote it, one by one, and what had caused them: whichever way it is folded."""

import tracemalloc
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
from tests.projections import folds
from tests.worker.waiting import one

from wakelog import BadInput, Wakelog, append
from wakelog.log.read import head
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.provenance import Touch, why
from wakelog.projections.runner import catch_up

Connection = psycopg.Connection[Any]
TABLES = "create table seats (seat int primary key, who text, times int not null default 1)"


def per_event(event: Any, connection: Connection) -> None:
    seat, who = event.payload["seat"], event.payload.get("who")
    if who is None:
        connection.execute("delete from seats where seat = %s", [seat])
    else:
        connection.execute(
            """insert into seats values (%s, %s)
               on conflict (seat) do update set who = excluded.who, times = seats.times + 1""",
            [seat, who],
        )


def per_batch(events: Any, connection: Connection) -> None:
    for event in events:
        per_event(event, connection)


IN_SQL = """
    insert into seats
    select (payload ->> 'seat')::int, max(payload ->> 'who'), count(*) from new_events
    where type = 'seat.taken' group by 1
    on conflict (seat) do update set who = greatest(seats.who, excluded.who), times = seats.times + excluded.times
"""

WAYS: dict[str, Callable[[Wakelog], object]] = {
    "per event": lambda app: app.projection("seats", on="seat.*", tables=TABLES)(per_event),
    "per batch": lambda app: app.projection("seats", on="seat.*", tables=TABLES, batch=True)(per_batch),
    "SQL": lambda app: app.projection("seats", on="seat.*", tables=TABLES, sql=IN_SQL),
}


def declared(way: str) -> ProjectionDefinition:
    app = Wakelog("theatre")
    WAYS[way](app)
    return app.projections["seats"]


def every(*asked: Any) -> list[Touch]:
    return list(why(*asked))


def take(connection: Connection, count: int, seats: int = 40) -> None:
    """Seats that are taken, left and taken again, among events that have nothing to do with it."""
    connection.execute(
        """insert into wakelog.events (type, payload)
           select case when n %% 3 = 0 then 'other' else 'seat.taken' end,
                  case when n %% 7 = 0 then jsonb_build_object('seat', n * n %% %(seats)s)
                       else jsonb_build_object('seat', n * n %% %(seats)s, 'who', 'p' || n %% 5) end
           from generate_series(1, %(count)s) n""",
        {"count": count, "seats": seats},
    )
    connection.execute("select wakelog.sequence()")


def wrote(connection: Connection, seat: int, *, deleting: bool) -> list[int]:
    """The positions of what is about a seat, by hand: a delete of no row writes nothing."""
    there, found = False, list[int]()
    for position, who in connection.execute(
        """select position, payload ->> 'who' from wakelog.log_events
           where type = 'seat.taken' and (payload ->> 'seat')::int = %s order by position""",
        [seat],
    ):
        if who is not None or there or not deleting:
            found.append(position)
        there = who is not None
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_event_that_wrote_it_and_no_other(connection: Connection, database: str, way: str) -> None:
    definition = declared(way)
    take(connection, 1200, seats=100)
    assert catch_up(database, {"seats": definition}) == []
    for seat in (0, 36):
        touches = every(
            connection, database, "seats", definition, "seats", {"seat": str(seat)}, head(connection)
        )
        assert [touch.position for touch in touches] == wrote(connection, seat, deleting=way != "SQL")
        now = connection.execute("select to_jsonb(s) from seats.seats s where seat = %s", [seat]).fetchone()
        assert touches[-1].now == (now[0] if now else None)
        assert touches[0].was is None
        assert [touch.was for touch in touches[1:]] == [touch.now for touch in touches[:-1]]
    assert one(connection, "select count(*) from wakelog.projection_builds") == 1
    assert connection.execute("select nspname from pg_namespace where nspname like 'seats%'").fetchall() == [
        ("seats",)
    ]


def test_as_of_a_position_and_with_its_causes(connection: Connection, database: str) -> None:
    definition = declared("per event")
    asked = append(connection, "seat.asked", {"seat": 1, "who": "ada"}, source="desk")
    answer = append(connection, "seat.granted", {"seat": 1, "who": "ada"}, causation_id=asked.id)
    append(connection, "seat.taken", {"seat": 1, "who": "ada"}, causation_id=answer.id)
    append(connection, "seat.taken", {"seat": 1})
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, {"seats": definition}) == []
    touches = every(connection, database, "seats", definition, "seats", {"seat": "1"}, 3)
    assert [(one.position, one.was and one.was["times"], one.now and one.now["times"]) for one in touches] == [
        (1, None, 1), (2, 1, 2), (3, 2, 3),
    ]  # fmt: skip
    assert [cause.id for cause in touches[2].causes] == [answer.id, asked.id]
    assert [(cause.position, cause.type, cause.source) for cause in touches[2].causes] == [
        (2, "seat.granted", ""), (1, "seat.asked", "desk"),
    ]  # fmt: skip
    last = every(connection, database, "seats", definition, "seats", {"seat": "1"}, 4)[-1]
    assert (last.position, last.now) == (4, None)


@pytest.mark.parametrize(
    ("table", "key", "sentence"),
    [
        ("chairs", {"seat": "1"}, 'expected one of the tables seats, found "chairs"'),
        ("seats", {"row": "1"}, 'expected one of the columns seat, who, times, found "row"'),
        ("seats", {"seat": "front"}, "seat: expected a value of type integer, found 'front'"),
        ("seats", {}, "expected at least one column"),
    ],
)
def test_what_is_not_there_says_so_and_leaves_nothing(
    connection: Connection, database: str, table: str, key: dict[str, str], sentence: str
) -> None:
    definition = declared("per event")
    take(connection, 10)
    assert catch_up(database, {"seats": definition}) == []
    with pytest.raises(BadInput, match=sentence):
        every(connection, database, "seats", definition, table, key, 10)
    assert one(connection, "select count(*) from wakelog.projection_builds") == 1


def test_an_event_that_wrote_it_more_than_once_is_one(connection: Connection, database: str) -> None:
    app = Wakelog("theatre")

    @app.projection("seats", on="seat.*", tables=TABLES)
    def both(event: Any, connection: Connection) -> None:
        per_event(event, connection)
        per_event(event, connection)

    for who in ("ada", "bob"):
        append(connection, "seat.taken", {"seat": 1, "who": who})
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    touches = every(connection, database, "seats", app.projections["seats"], "seats", {"seat": "1"}, 2)
    assert [(one.position, one.was and one.was["times"], one.now and one.now["times"]) for one in touches] == [
        (1, None, 2), (2, 2, 4),
    ]  # fmt: skip


KEYS = "create table kept (doc jsonb, tags text[], amount numeric, primary key (doc, tags, amount))"


@pytest.mark.parametrize(
    ("key", "positions"),
    [
        ({"doc": '{"a": 1}'}, [1]),
        ({"doc": '{"b": [1, 2], "a": 1}'}, [2]),
        ({"doc": "[1]"}, [3]),
        ({"doc": '"[1]"'}, [4]),
        ({"doc": "{}"}, [5]),
        ({"tags": "{x}"}, [2, 4]),
        ({"tags": "{y,x}"}, [3]),
        ({"tags": "{}"}, [5]),
        ({"amount": "12345678901234567890.5"}, [1]),
        ({"amount": "12345678901234567890.50", "tags": "{x,y}"}, [1]),
    ],
)  # fmt: skip
def test_a_value_is_the_same_and_not_merely_contained(
    connection: Connection, database: str, key: dict[str, str], positions: list[int]
) -> None:
    app = Wakelog("theatre")
    app.projection("kept", on="kept", tables=KEYS, sql="""
        insert into kept select payload -> 'doc', array(select jsonb_array_elements_text(payload -> 'tags')),
               (payload ->> 'amount')::numeric from new_events""")  # fmt: skip
    for doc, tags, amount in (
        ({"a": 1}, "xy", "12345678901234567890.5"), ({"a": 1, "b": [1, 2]}, "x", "12345678901234567890.4"),
        ([1], "yx", "1"), ("[1]", "x", "1"), ({}, "", "1"),
    ):  # fmt: skip
        append(connection, "kept", {"doc": doc, "tags": list(tags), "amount": amount})
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    found = every(connection, database, "kept", app.projections["kept"], "kept", key, 5)
    assert [one.position for one in found] == positions


def test_what_is_no_json_is_said_to_be_none(connection: Connection, database: str) -> None:
    app = Wakelog("theatre")
    app.projection("kept", on="kept", tables=KEYS, sql="insert into kept select payload from new_events")
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    with pytest.raises(BadInput, match="doc: expected a value of type jsonb, found 'ada'"):
        every(connection, database, "kept", app.projections["kept"], "kept", {"doc": "ada"}, 0)


def test_a_row_of_very_many_events_is_never_whole_in_memory(connection: Connection, database: str) -> None:
    """Hundreds of events, each of which makes it anew with a note of some 20 kB."""
    app = Wakelog("theatre")
    app.projection("sums", on="paid", tables="create table sums (id int primary key, n bigint, note text)", sql="""
        insert into sums select 1, max(position), repeat(max(position)::text, 8000) from new_events having count(*) > 0
        on conflict (id) do update set n = excluded.n, note = excluded.note""")  # fmt: skip
    connection.execute("insert into wakelog.events (type) select 'paid' from generate_series(1, 400)")
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    asked = (connection, database, "sums", app.projections["sums"], "sums", {"id": "1"}, 400)
    tracemalloc.start()
    try:
        with closing(why(*asked)) as touches:
            count = sum(touch.position == n for n, touch in enumerate(touches, start=1))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 400
    assert most < 8_000_000


def test_who_has_seen_enough_leaves_nothing(connection: Connection, database: str) -> None:
    definition = declared("per event")
    take(connection, 40, seats=1)
    assert catch_up(database, {"seats": definition}) == []
    with closing(why(connection, database, "seats", definition, "seats", {"seat": "0"}, 40)) as touches:
        assert next(touches).position == 1
        assert one(connection, "select count(*) from wakelog.projection_builds") == 2
    assert one(connection, "select count(*) from wakelog.projection_builds") == 1


def test_a_row_that_never_was_has_no_events(connection: Connection, database: str) -> None:
    definition = declared("per event")
    take(connection, 10)
    assert catch_up(database, {"seats": definition}) == []
    assert every(connection, database, "seats", definition, "seats", {"seat": "77777"}, 10) == []
    assert folds.caught_up(connection, "seats")
