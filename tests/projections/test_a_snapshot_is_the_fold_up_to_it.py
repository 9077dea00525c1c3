"""From a snapshot or from zero, the state of a stream is the same, at every position."""

import asyncio
import random
from collections import Counter
from contextlib import closing
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine
from tests.projections import folds
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog import Event, Wakelog, append, append_many, fold, read
from wakelog.errors import BadInput
from wakelog.log.read import head
from wakelog.postgres.connect import connect
from wakelog.projections.builds import Build
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.folding import AIM_OF_A_REBUILD, Folding
from wakelog.projections.runner import catch_up
from wakelog.projections.snapshots import kept
from wakelog.projections.verifying import verify

Connection = psycopg.Connection[Any]


class Cart(BaseModel):
    """A state whose every event shows, and its order, too."""

    items: dict[str, int] = {}
    chain: int = 0


def cart(state: Cart, event: Event) -> Cart:
    state.items[event.type] = state.items.get(event.type, 0) + event.payload["n"]
    state.chain = (state.chain * 31 + event.payload["n"]) % 1_000_003
    return state


def declared(every: int | None, version: int = 1, function: Any = cart, initial: Any = Cart) -> Wakelog:
    app = Wakelog("shop")
    app.projection("cart", on="cart.#", mode="live", initial=initial, snapshots=every, version=version)(
        function
    )
    return app


def both(app: Wakelog) -> tuple[ProjectionDefinition, ProjectionDefinition]:
    """With its snapshots, and without."""
    ours = app.projections["cart"]
    without = declared(None, function=ours.fold, initial=ours.initial).projections["cart"]
    return ours, without


def fill(connection: Connection, streams: int, events: int, seed: int = 7) -> None:
    chance = random.Random(seed)
    append_many(connection, [
        {
            "type": chance.choice(["cart.put", "cart.taken.out", "other"]),
            "stream": f"cart-{min(chance.randrange(streams), chance.randrange(streams))}",
            "payload": {"n": number},
        }
        for number in range(events)
    ])  # fmt: skip
    connection.execute("select wakelog.sequence()")


def test_at_every_position(connection: Connection, database: str) -> None:
    app = declared(10)
    ours, without = both(app)
    fill(connection, 4, 150)
    assert catch_up(database, app.projections) == []
    fill(connection, 4, 150, seed=8)
    assert catch_up(database, app.projections) == []
    fill(connection, 4, 15, seed=9)  # behind the log, too
    assert one(connection, "select count(*) from cart.snapshots") > 20
    for position in range(0, head(connection) + 1, 3):
        for stream in ("cart-0", "cart-3", "cart-none"):
            at = {"stream": stream, "upto": position}
            assert fold(connection, ours, **at) == fold(connection, without, **at), at
    assert fold(connection, ours, stream="cart-0") == fold(connection, without, stream="cart-0")
    assert fold(connection, ours) == fold(connection, without)


def test_of_a_stream_of_60000_events(connection: Connection, database: str) -> None:
    """In the middle, at its end, at a snapshot and beside one."""
    length = 60_000
    app = declared(1000)
    ours, without = both(app)
    append_many(
        connection,
        ({"type": "cart.put", "stream": "cart-1", "payload": {"n": n}} for n in range(1, length + 1)),
    )
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    assert one(connection, "select array[count(*), max(version)] from cart.snapshots") == [60, length]
    assert one(connection, "select max(version) from wakelog.events where stream = 'cart-1'") == length

    folded: list[int] = []

    def counting(state: Cart, event: Event) -> Cart:
        folded.append(event.payload["n"])
        return cart(state, event)

    counted = declared(1000, function=counting).projections["cart"]
    for upto in (1, 999, 1000, 1001, length // 2 + 1, length):
        folded.clear()
        state = fold(connection, counted, stream="cart-1", upto=upto)
        assert len(folded) == upto % 1000
        assert state == fold(connection, ours, stream="cart-1", upto=upto)
        assert state == fold(connection, without, stream="cart-1", upto=upto), upto


@pytest.fixture
def long_one(connection: Connection, database: str) -> tuple[Wakelog, list[int]]:
    """A stream of 500 events with snapshots, and what its fold was called with since."""
    seen: list[int] = []

    def counting(state: Cart, event: Event) -> Cart:
        seen.append(event.payload["n"])
        return cart(state, event)

    app = declared(100, function=counting)
    append_many(
        connection, [{"type": "cart.put", "stream": "cart-1", "payload": {"n": n}} for n in range(1, 501)]
    )
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    seen.clear()
    return app, seen


def test_what_lies_before_it_is_not_read_again(
    connection: Connection, long_one: tuple[Wakelog, list[int]]
) -> None:
    app, seen = long_one
    fold(connection, app.projections["cart"], stream="cart-1", upto=250)
    assert seen == list(range(201, 251))


def test_over_every_kind_of_connection(database: str, long_one: tuple[Wakelog, list[int]]) -> None:
    app, seen = long_one
    ours = app.projections["cart"]

    async def states_of() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            states = [await fold(connection, ours, stream="cart-1", upto=420)]
        engine = create_async_engine(database.replace("postgresql://", "postgresql+psycopg://"))
        async with engine.connect() as sqlalchemy:
            states.append(await fold(sqlalchemy, ours, stream="cart-1", upto=420))
        await engine.dispose()
        return states

    states = asyncio.run(states_of())
    assert states[0] == states[1]
    assert seen == [*range(401, 421), *range(401, 421)]


def test_of_another_version_they_are_left_alone(
    connection: Connection, long_one: tuple[Wakelog, list[int]]
) -> None:
    def twice(state: Cart, event: Event) -> Cart:
        return cart(cart(state, event), event)

    newer, without = both(declared(100, version=2, function=twice))
    assert fold(connection, newer, stream="cart-1", upto=250) == fold(
        connection, without, stream="cart-1", upto=250
    )


def test_who_may_not_read_them_folds_from_zero(
    connection: Connection, long_one: tuple[Wakelog, list[int]]
) -> None:
    app, seen = long_one
    with connection.transaction(force_rollback=True):
        connection.execute("set local role wakelog_reader")
        fold(connection, app.projections["cart"], stream="cart-1", upto=250)
    assert seen == list(range(1, 251))
    seen.clear()
    with connection.transaction(force_rollback=True):
        connection.execute("grant usage on schema cart to wakelog_reader")
        connection.execute("grant select on cart.snapshots to wakelog_reader")
        connection.execute("set local role wakelog_reader")
        fold(connection, app.projections["cart"], stream="cart-1", upto=250)
    assert seen == list(range(201, 251))


def test_versions_written_by_hand_out_of_order_are_never_in_a_snapshot(
    connection: Connection, database: str
) -> None:
    app = declared(2)
    ours, without = both(app)
    insert = (
        "insert into wakelog.events (type, stream, version, payload) values ('cart.put', 'cart-1', %s, %s)"
    )
    for n, version in enumerate((1, 2, 5, 6, 3, 4, 7, 8, 9)):
        connection.execute(insert, [version, f'{{"n": {n}}}'])
        connection.execute("select wakelog.sequence()")
        assert catch_up(database, app.projections) == []
    assert connection.execute("select version from cart.snapshots order by 1").fetchall() == [(2,)]
    for position in range(10):
        at = {"stream": "cart-1", "upto": position}
        assert fold(connection, ours, **at) == fold(connection, without, **at), position


def test_however_many_events_come_at_a_time_they_are_the_same(connection: Connection, database: str) -> None:
    """Streams whose versions were written by hand, some out of order: verify folds them again in one go."""
    app = declared(3)
    ours, without = both(app)
    chance = random.Random(11)
    for stream in range(6):
        versions = list(range(1, 31))
        for _ in range(stream):
            versions.insert(chance.randrange(8, 28), versions.pop(chance.randrange(8, 28)))
        for version in versions:
            connection.execute(
                "insert into wakelog.events (type, stream, version, payload) values (%s, %s, %s, %s)",
                [chance.choice(["cart.put", "other"]), f"cart-{stream}", version, f'{{"n": {version}}}'],
            )
            if chance.random() < 0.1:
                connection.execute("select wakelog.sequence()")
                assert catch_up(database, app.projections) == []
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    taken = "select version from cart.snapshots where stream = %s order by position"
    for stream in range(6):
        found = connection.execute(taken, [f"cart-{stream}"]).fetchall()
        assert [version for (version,) in found] == due(connection, f"cart-{stream}", every=3)

    verdict = verify(
        connection, database, "cart", kept(ours), lambda build: to_its_end(database, ours, build)
    )
    assert verdict.difference is None
    for position in range(0, head(connection) + 1, 2):
        at = {"stream": f"cart-{position // 30}", "upto": position}
        assert fold(connection, ours, **at) == fold(connection, without, **at), at


def due(connection: Connection, stream: str, every: int) -> list[int]:
    """The versions after which a snapshot is to be taken, by hand: of what is folded, and up to the first disorder."""
    found, last = list[int](), 0
    for expected, event in enumerate(read(connection, stream=stream), start=1):
        assert event.version is not None
        if event.version != expected:
            break
        if event.version - last >= every and event.type == "cart.put":
            found.append(last := event.version)
    assert found
    return found


def to_its_end(url: str, definition: ProjectionDefinition, build: Build) -> None:
    with closing(open_projection_connection(url, build.projection)) as own:
        folding = Folding(own, build.build, kept(definition), aim=AIM_OF_A_REBUILD)
        while not folding.advance(build.upto).at_end:
            pass


def test_a_state_that_is_no_json_is_an_error_and_not_another_state(
    connection: Connection, database: str
) -> None:
    def numbers(state: Any, event: Event) -> Any:
        return {**state, event.payload["n"]: True}  # JSON has only text as keys

    def counter(state: Any, event: Event) -> Any:
        state["n"] += event.payload["n"]
        return state

    app = Wakelog("shop")
    for name, function, initial in (("numbers", numbers, dict), ("counter", counter, Counter)):
        app.projection(name, on="cart.#", mode="live", initial=initial, snapshots=2)(function)
    append_many(connection, [{"type": "cart.put", "stream": "cart-1", "payload": {"n": n}} for n in range(3)])
    connection.execute("select wakelog.sequence()")
    stopped = catch_up(database, app.projections)
    assert len(stopped) == 2
    assert all("expected a state that is the same once it was JSON" in one for one in stopped)


def test_a_fold_that_fails_stops_whoever_asks_and_no_other_stream(
    connection: Connection, database: str
) -> None:
    def picky(state: Cart, event: Event) -> Cart:
        if event.payload["n"] == 13:
            raise ValueError("13")
        return cart(state, event)

    app = declared(2, function=picky)
    for stream, numbers in (("cart-1", (1, 2, 13, 3, 4)), ("cart-2", (1, 2, 3, 4))):
        append_many(
            connection, [{"type": "cart.put", "stream": stream, "payload": {"n": n}} for n in numbers]
        )
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []
    found = "select stream, version from cart.snapshots order by 1, 2"
    assert connection.execute(found).fetchall() == [("cart-1", 2), ("cart-2", 2), ("cart-2", 4)]
    with pytest.raises(ValueError, match="13"):
        fold(connection, app.projections["cart"], stream="cart-1")


def test_a_worker_takes_them(connection: Connection, start_workers: StartWorkers) -> None:
    start_workers("""
    @app.projection("cart", on="cart.#", mode="live", initial=dict, snapshots=5)
    def cart(state, event):
        return {"n": state.get("n", 0) + event.payload["n"]}
    """)
    for n in range(1, 12):
        append(connection, "cart.put", {"n": n}, stream="cart-1")
    until(lambda: one(connection, "select to_regclass('cart.snapshots') is not null"))
    found = "select version, state from cart.snapshots order by 1"
    until(lambda: connection.execute(found).fetchall() == [(5, {"n": 15}), (10, {"n": 55})])
    until(lambda: folds.caught_up(connection, "cart"))


def test_what_makes_no_sense_is_refused() -> None:
    for every, sentence in ((0, "1 or more"), (True, "1 or more")):
        with pytest.raises(BadInput, match=sentence):
            declared(every)
    with pytest.raises(BadInput, match="for mode live only"):
        Wakelog("shop").projection("cart", tables="create table a (b int)", snapshots=5)(lambda e, c: None)


def test_one_moment_is_asked_for_in_one_way(connection: Connection, database: str) -> None:
    append(connection, "cart.put", {"n": 1}, stream="cart-1")
    connection.execute("select wakelog.sequence()")
    ours = declared(None).projections["cart"]
    with connect(database) as other:
        now = other.execute("select clock_timestamp()").fetchone()
    assert now is not None
    assert fold(connection, ours, stream="cart-1", at=now[0]).items == {"cart.put": 1}
    with pytest.raises(BadInput, match="expected one of upto and at"):
        fold(connection, ours, upto=1, at=now[0])
