"""An event is read as the newest version of its type, whichever it was appended in, or not at all."""

import copy
from collections.abc import Iterator
from datetime import date
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field

from wakelog import (
    FORGOTTEN,
    BadInput,
    DoesNotFit,
    Forgotten,
    NewEvent,
    UnreadableEvent,
    append,
    append_many,
    event_model,
    read_stream,
    upcaster,
)
from wakelog.log.models import forget_models, parse, upcast


class OrderPlaced(BaseModel):
    """Of version 3: once the total was called amount, and once there was no currency."""

    total: int = Field(gt=0)
    currency: str


@pytest.fixture(autouse=True)
def nothing_stays_declared() -> Iterator[None]:
    forget_models()
    yield
    forget_models()


def declare(*, closed: bool = False) -> None:
    event_model("order.placed", version=3, closed=closed)(OrderPlaced)

    @upcaster("order.placed", 1)
    def rename(payload: Any) -> Any:
        return {"total": payload["amount"]}

    @upcaster("order.placed", 2)
    def add_currency(payload: Any) -> Any:
        return {**payload, "currency": "EUR"}


OLD = {1: {"amount": 5}, 2: {"total": 5}, 3: {"total": 5, "currency": "EUR"}}


@pytest.mark.parametrize("version", OLD)
def test_each_version_is_read_as_the_newest(observer: psycopg.Connection[Any], version: int) -> None:
    append(observer, "order.placed", OLD[version], stream="order-1", schema_version=version)
    declare()
    (event,) = read_stream(observer, "order-1")
    assert event.data == OrderPlaced(total=5, currency="EUR")
    assert event.data is event.data
    assert (event.payload, event.schema_version) == (OLD[version], version)


def test_a_payload_without_a_version_is_of_the_newest(observer: psycopg.Connection[Any]) -> None:
    declare()
    said = {"total": 5, "currency": "USD"}
    append(observer, "order.placed", said, stream="order-1")
    append(
        observer, NewEvent(type="order.placed", payload=said, stream="order-1").type, said, stream="order-1"
    )
    append_many(observer, [{"type": "order.placed", "payload": said, "stream": "order-1"}])
    append_many(
        observer, [{"type": "order.placed", "payload": said, "stream": "order-1", "idempotency_key": "a"}]
    )
    found = list(read_stream(observer, "order-1"))
    assert [(event.schema_version, event.data.currency) for event in found] == [(3, "USD")] * 4
    assert append(observer, "something").schema_version == 1


def test_an_upcaster_may_change_what_it_gets(observer: psycopg.Connection[Any]) -> None:
    event = append(observer, "changed", {"parts": [1]})

    class Changed(BaseModel):
        parts: list[int]

    event_model("changed", version=2)(Changed)

    @upcaster("changed", 1)
    def change(payload: Any) -> Any:
        payload["parts"].append(2)
        return payload

    assert event.data.parts == [1, 2]
    event.data.parts.append(3)
    assert event.payload == {"parts": [1]}


class Line(BaseModel):
    """All that once came back unreadable, or not at all."""

    model_config = ConfigDict(strict=True, extra="forbid")

    day: date = Field(alias="orderDay")
    pieces: int
    price: int

    @computed_field
    @property
    def sum(self) -> int:
        return self.pieces * self.price


def test_what_was_appended_as_a_model_is_read_as_the_same(observer: psycopg.Connection[Any]) -> None:
    event_model("line.added")(Line)
    line = Line(orderDay=date(2026, 11, 27), pieces=2, price=3)
    event = append(observer, line)
    assert event.payload == {"orderDay": "2026-11-27", "pieces": 2, "price": 3}
    assert event.data == line
    assert event.data.sum == 6


def test_a_model_that_could_not_be_read_again_is_not_appended(observer: psycopg.Connection[Any]) -> None:
    class OneWay(BaseModel):
        name: str = Field(serialization_alias="nom")

    event_model("one.way")(OneWay)
    event_model("line.added")(Line)
    spoilt = Line(orderDay=date(2026, 11, 27), pieces=2, price=3)
    spoilt.pieces = cast(Any, "two")
    for value, path in ((OneWay(name="a"), "payload.name"), (spoilt, "payload.pieces")):
        with pytest.raises(DoesNotFit, match="cannot be read again from its JSON") as refused:
            append(observer, value)
        assert refused.value.values["path"] == path
    assert observer.execute("select count(*) from wakelog.events").fetchone() == (0,)


class Wide(BaseModel):
    name: str


class Wider(Wide):
    more: int = 0


class Hidden(BaseModel):
    total: int = Field(default=1, exclude=True)


class Renamed(BaseModel):
    total: int = Field(default=0, serialization_alias="sum")


class Holds(BaseModel):
    wide: Wide


@pytest.mark.parametrize(
    "value", [Hidden(total=7), Renamed(total=5), Holds(wide=Wider(name="a", more=1)), RootModel[int | None](None)],
    ids=["a field left out", "another name and a default", "a subclass in a field", "nothing at all"],
)  # fmt: skip
def test_a_model_that_would_be_read_as_another_is_not_appended(
    observer: psycopg.Connection[Any], value: BaseModel
) -> None:
    event_model("a.thing")(type(value))
    with pytest.raises(DoesNotFit, match=r"would be read as another one|cannot be read again"):
        append(observer, value)
    assert observer.execute("select count(*) from wakelog.events").fetchone() == (0,)


def test_what_a_model_keeps_for_itself_does_not_count(observer: psycopg.Connection[Any]) -> None:
    class Counted(BaseModel):
        n: int
        _seen: int = 0

    event_model("counted")(Counted)
    counted = Counted(n=1)
    counted._seen = 5
    assert append(observer, counted).data.n == 1


def test_what_was_forgotten_fits_a_model_that_expects_it() -> None:
    class Customer(BaseModel):
        name: str | Forgotten

    event_model("customer.joined")(Customer)
    assert parse("customer.joined", 1, {"name": "Ada"}).name == "Ada"
    assert parse("customer.joined", 1, {"name": FORGOTTEN}).name is FORGOTTEN
    assert copy.deepcopy(FORGOTTEN) is FORGOTTEN
    assert Customer(name=FORGOTTEN).model_dump(mode="json") == {"name": {"$forgotten": True}}
    for wrong in ({"$forgotten": False}, {"$forgotten": True, "more": 1}, None):
        with pytest.raises(UnreadableEvent):
            parse("customer.joined", 1, {"name": wrong})


def test_numbers_larger_than_json_libraries_like_are_read() -> None:
    class Large(BaseModel):
        n: int

    event_model("large")(Large)
    assert parse("large", 1, {"n": 2**80}).n == 2**80


def test_without_a_model_the_data_is_the_payload(observer: psycopg.Connection[Any]) -> None:
    assert append(observer, "something", {"a": 1}).data == {"a": 1}


def test_a_model_is_appended_with_its_type_and_version(observer: psycopg.Connection[Any]) -> None:
    declare()
    event = append(observer, OrderPlaced(total=7, currency="USD"), stream="order-2", metadata={"by": "ada"})
    assert (event.type, event.schema_version, event.payload) == (
        "order.placed",
        3,
        {"total": 7, "currency": "USD"},
    )
    assert append_many(observer, [
        OrderPlaced(total=1, currency="EUR"), {"type": OrderPlaced(total=2, currency="EUR"), "stream": "order-2"},
    ]) == 2  # fmt: skip
    assert [found.data.total for found in read_stream(observer, "order-2")] == [7, 2]


def test_a_class_that_is_not_declared_is_no_event(observer: psycopg.Connection[Any]) -> None:
    with pytest.raises(
        BadInput, match=r"expected the instance of a declared model, found one of .*OrderPlaced"
    ):
        append(observer, OrderPlaced(total=1, currency="EUR"))


def test_a_payload_beside_a_model_is_refused(observer: psycopg.Connection[Any]) -> None:
    declare()
    with pytest.raises(BadInput, match="expected no payload beside a model"):
        append(observer, OrderPlaced(total=1, currency="EUR"), {"total": 2})
    with pytest.raises(BadInput, match="expected version 3, that of the model"):
        append(observer, OrderPlaced(total=1, currency="EUR"), schema_version=2)


@pytest.mark.parametrize(
    ("version", "payload", "sentence"),
    [
        (4, {}, "order.placed: expected version 3 or older, found 4"),
        (0, {}, "expected an upcaster from version 0 to 1, found none"),
        (1, {}, "the upcaster from version 1 to 2 failed: KeyError: 'amount'"),
        (3, {"total": "x"}, "payload.total: .*, found 'x'; payload.currency: Field required"),
    ],
)
def test_what_cannot_be_read_says_why(
    observer: psycopg.Connection[Any], version: int, payload: Any, sentence: str
) -> None:
    event = append(observer, "order.placed", payload, schema_version=version)
    declare()
    with pytest.raises(UnreadableEvent, match=sentence):
        _ = event.data


def test_what_is_open_takes_anything(observer: psycopg.Connection[Any]) -> None:
    declare()
    append(observer, "order.placed", {"whatever": 1}, schema_version=9)


def test_a_type_has_one_model() -> None:
    declare()
    declare()  # imported again

    class Another(BaseModel): ...

    with pytest.raises(BadInput, match="is declared twice"):
        event_model("order.placed")(Another)
    with pytest.raises(BadInput, match="version of 1 or more"):
        event_model("another", version=0)(Another)
    with pytest.raises(BadInput, match="version of 1 or more"):
        upcaster("another", 0)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.data())
def test_a_chain_of_upcasters_is_each_of_them_in_turn(steps: list[int], data: st.DataObject) -> None:
    forget_models("chain")
    newest = len(steps) + 1
    version = data.draw(st.integers(1, newest))

    class Chain(BaseModel):
        value: int

    event_model("chain", version=newest)(Chain)
    for number, step in enumerate(steps, start=1):

        @upcaster("chain", number)
        def go_on(payload: Any, step: int = step) -> Any:
            return {"value": payload["value"] * 10 + step}

    expected = 1
    for step in steps[version - 1 :]:
        expected = expected * 10 + step
    assert upcast("chain", version, {"value": 1}) == {"value": expected}
