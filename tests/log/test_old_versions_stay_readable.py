"""Event models: typed data, upcasters, and what is refused where a type was declared closed."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from wakelog import (
    BadInput,
    DoesNotFit,
    UnknownType,
    UnknownVersion,
    UnreadableEvent,
    append,
    append_many,
    closed_family,
    event_model,
    read_stream,
    upcaster,
)
from wakelog.log.models import closed_families, forget_models, upcast


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


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        ({"payload": {"total": 0, "currency": "EUR"}, "schema_version": 3}, DoesNotFit, "payload.total: .* found '0'"),
        ({"payload": {"amount": 0}, "schema_version": 1}, DoesNotFit, "payload.total"),
        ({"payload": {}, "schema_version": 1}, DoesNotFit, "the upcaster from version 1 to 2 failed"),
        ({"schema_version": 4}, UnknownVersion, "expected version 1 or 2 or 3, found 4"),
        ({"type": "order.payed"}, UnknownType, r'closed family "order" \(order.placed\), found "order.payed"'),
    ],
)  # fmt: skip
def test_what_is_closed_refuses_all_else(
    observer: psycopg.Connection[Any], values: dict[str, Any], error: type[BadInput], sentence: str
) -> None:
    declare()
    closed_family("order")
    for attempt in (lambda v: append(observer, **v), lambda v: append_many(observer, [v])):
        with pytest.raises(error, match=sentence):
            attempt({"type": "order.placed", **values})
    row = observer.execute("select count(*) from wakelog.events").fetchone()
    assert row == (0,)


def test_closed_takes_what_fits_in_each_version(observer: psycopg.Connection[Any]) -> None:
    declare(closed=True)
    for version, payload in OLD.items():
        append(observer, "order.placed", payload, schema_version=version)
    append(observer, "order.payed")  # only the one type is closed
    append(observer, "orders")


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


def test_the_database_refuses_other_types_and_versions_of_a_closed_family(
    observer: psycopg.Connection[Any],
) -> None:
    declare()
    closed_family("order")
    assert closed_families() == {"order": {"order.placed": [1, 2, 3]}}
    observer.execute("select wakelog.declare_family('order', array['order.placed'])")
    observer.execute("select wakelog.declare_versions('order', '{\"order.placed\": [1, 2, 3]}')")
    insert = "insert into wakelog.events (type, schema_version) values (%s, %s)"
    observer.execute(insert, ["order.placed", 2])
    for type_, version, state in [("order.placed", 4, "WL011"), ("order.payed", 1, "WL009")]:
        with pytest.raises(psycopg.Error) as refused, observer.transaction():
            observer.execute(insert, [type_, version])
        assert refused.value.sqlstate == state
    observer.execute("select wakelog.declare_versions('order', null)")
    observer.execute(insert, ["order.placed", 4])
    with pytest.raises(psycopg.Error, match="expected an object of arrays"), observer.transaction():
        observer.execute("select wakelog.declare_versions('order', '{\"order.placed\": 1}')")


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
