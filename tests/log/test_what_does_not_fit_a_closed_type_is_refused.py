"""Of a closed type or family nothing is appended that the code could not read: refused with what, where and why."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import psycopg
import pytest
from pydantic import BaseModel, Field

from wakelog import (
    BadInput,
    DoesNotFit,
    UnknownType,
    UnknownVersion,
    append,
    append_many,
    closed_family,
    event_model,
    upcaster,
)
from wakelog.agents.context import Context
from wakelog.log.closed import closings, outcome
from wakelog.log.models import forget_models


class OrderPlaced(BaseModel):
    """Of version 3: once the total was called amount, and once there was no currency."""

    total: int = Field(gt=0)
    currency: str


OLD = {1: {"amount": 5}, 2: {"total": 5}, 3: {"total": 5, "currency": "EUR"}}


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


def ways(connection: psycopg.Connection[Any]) -> list[Callable[..., object]]:
    """The ways to append that Python has."""

    def emit(type: str, payload: Any = None, **said: Any) -> object:
        if said:
            return append(connection, type, payload, **said)  # emit takes no version
        context = Context(append(connection, "anything"), "agent", 1, False, cast(Any, None))
        return context.emit(type, payload)

    return [
        lambda **values: append(connection, **values),
        lambda **values: append_many(connection, [values]),
        lambda **values: append_many(connection, [{**values, "idempotency_key": "a"}]),
        emit,
    ]


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        ({"payload": {"total": 0, "currency": "EUR"}, "schema_version": 3}, DoesNotFit, "payload.total: .* found '0'"),
        ({"payload": {"amount": 0}, "schema_version": 1}, DoesNotFit, "payload.total"),
        ({"payload": {"amount": 5}}, DoesNotFit, "does not fit version 3: payload.total: Field required"),
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
    for attempt in ways(observer):
        with pytest.raises(error, match=sentence):
            attempt(**{"type": "order.placed", **values})
    row = observer.execute("select count(*) from wakelog.events where type like 'order%'").fetchone()
    assert row == (0,)


def test_closed_takes_what_fits_in_each_version(observer: psycopg.Connection[Any]) -> None:
    declare(closed=True)
    for version, payload in OLD.items():
        append(observer, "order.placed", payload, schema_version=version)
    append(observer, "order.payed")  # only the one type is closed
    append(observer, "orders")


def test_the_refusal_says_where_what_and_what_else_to_programs(observer: psycopg.Connection[Any]) -> None:
    declare(closed=True)
    with pytest.raises(DoesNotFit) as refused:
        append(observer, "order.placed", {"total": "many", "currency": "EUR"})
    assert refused.value.values == {
        "path": "payload.total",
        "expected": "Input should be a valid integer, unable to parse string as an integer",
        "found": "many",
    }


def test_what_an_agent_answers_must_fit_where_it_is_closed_and_may_be_anything_where_it_is_not() -> None:
    class Receipt(BaseModel):
        number: int

    event_model("billing.completed", version=3)(Receipt)
    closed_family("billing")
    assert outcome("billing.completed", {"number": 1}) == {"payload": {"number": 1}, "schema_version": 3}
    assert outcome("billing.completed", Receipt(number=1)) == {"payload": {"number": 1}, "schema_version": 3}
    assert outcome("billing.late.completed", "anything") == {"payload": "anything"}
    with pytest.raises(DoesNotFit, match=r"payload.number"):
        outcome("billing.completed", {"number": "one"})


def test_the_database_is_told_of_families_and_of_single_types() -> None:
    declare(closed=True)
    assert closings() == {"order.placed": ({"order.placed": [1, 2, 3]}, False)}
    closed_family("order")
    event_model("item", closed=True)(type("Item", (BaseModel,), {}))
    assert closings() == {
        "order": ({"order.placed": [1, 2, 3]}, True),
        "order.placed": ({"order.placed": [1, 2, 3]}, False),
        "item": ({"item": [1]}, False),
    }


CLOSE = "select wakelog.close_family(%s, %s, %s)"
INSERT = "insert into wakelog.events (type, schema_version) values (%s, %s)"
KNOWN = "select types, versions, must_match, xmin::text from wakelog.families where family = %s"


def refused(connection: psycopg.Connection[Any], type_: str, version: int) -> str | None:
    try:
        with connection.transaction():
            connection.execute(INSERT, [type_, version])
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_the_database_refuses_other_types_and_versions_of_a_closed_family(
    observer: psycopg.Connection[Any],
) -> None:
    observer.execute(CLOSE, ["order", '{"order.placed": [1, 2, 3], "order.paid": [7]}', True])
    told = {(t, v): refused(observer, t, v) for t, v in (
        ("order.placed", 1), ("order.placed", 3), ("order.paid", 7), ("orders", 9),
        ("order.placed", 4), ("order.paid", 1), ("order.payed", 1), ("order", 1),
    )}  # fmt: skip
    assert {key: state for key, state in told.items() if state} == {
        ("order.placed", 4): "WL011", ("order.paid", 1): "WL011", ("order.payed", 1): "WL009", ("order", 1): "WL009",
    }  # fmt: skip


def test_the_database_refuses_other_versions_of_a_closed_type_and_nothing_else(
    observer: psycopg.Connection[Any],
) -> None:
    observer.execute(CLOSE, ["order.placed", '{"order.placed": [1, 2]}', False])
    assert refused(observer, "order.placed", 3) == "WL011"
    for type_, version in (("order.placed", 2), ("order.placed.late", 3), ("order.payed", 3)):
        assert refused(observer, type_, version) is None


def test_what_is_known_stays_known_while_older_programs_still_start(
    observer: psycopg.Connection[Any],
) -> None:
    old = ["roll", '{"roll.a": [1]}', True]
    new = ["roll", '{"roll.a": [1, 2], "roll.b": [1]}', True]
    for closing in (old, new, old):
        observer.execute(CLOSE, closing)
    for type_, version in (("roll.a", 1), ("roll.a", 2), ("roll.b", 1)):
        assert refused(observer, type_, version) is None
    before = observer.execute(KNOWN, ["roll"]).fetchone()
    assert before is not None
    assert before[:3] == (["roll.a", "roll.b"], {"roll.a": [1, 2], "roll.b": [1]}, False)
    for closing in (old, new):  # nothing new: nothing is written
        observer.execute(CLOSE, closing)
    assert observer.execute(KNOWN, ["roll"]).fetchone() == before
    observer.execute("select wakelog.declare_family('roll', null, true)")  # as every worker does that says so
    observer.execute(CLOSE, ["roll", '{"roll.a": [10, 3], "roll.c": [1]}', True])
    assert (observer.execute(KNOWN, ["roll"]).fetchone() or ())[:3] == (
        ["roll.a", "roll.b", "roll.c"], {"roll.a": [1, 2, 3, 10], "roll.b": [1], "roll.c": [1]}, True,
    )  # fmt: skip
    observer.execute("select wakelog.declare_family('roll', null)")
    assert observer.execute(KNOWN, ["roll"]).fetchone() is None


ALONE_OLD = ["roll.a", '{"roll.a": [1]}', False]
"""What a program tells in which one type is closed, in its first version."""
FAMILY_NEW = ["roll", '{"roll.a": [1, 2], "roll.b": [1]}', True]
"""And one in which its family is, with a second version of it."""


@pytest.mark.parametrize(
    "order", [(ALONE_OLD, FAMILY_NEW), (FAMILY_NEW, ALONE_OLD)], ids=["old first", "new first"]
)
def test_a_type_closed_alone_by_one_program_and_in_its_family_by_another_is_what_either_knows(
    observer: psycopg.Connection[Any], order: tuple[list[Any], list[Any]]
) -> None:
    for closing in order:
        observer.execute(CLOSE, closing)
    told = {(t, v): refused(observer, t, v) for t, v in (
        ("roll.a", 1), ("roll.a", 2), ("roll.b", 1), ("roll.a", 3), ("roll.b", 2), ("roll.c", 1),
    )}  # fmt: skip
    assert {key: state for key, state in told.items() if state} == {
        ("roll.a", 3): "WL011", ("roll.b", 2): "WL011", ("roll.c", 1): "WL009",
    }  # fmt: skip
    with pytest.raises(psycopg.Error, match=r'expected version 1, 2 of the type "roll.a", found 3'):
        observer.execute(INSERT, ["roll.a", 3])


@pytest.mark.parametrize("new_first", [False, True], ids=["old first", "new first"])
def test_a_part_of_a_family_closed_by_another_program_is_what_either_knows(
    observer: psycopg.Connection[Any], new_first: bool
) -> None:
    closings = [["roll", '{"roll.a": [1]}', True], ["roll.item", '{"roll.item.added": [1]}', True]]
    for closing in reversed(closings) if new_first else closings:
        observer.execute(CLOSE, closing)
    assert refused(observer, "roll.item.added", 1) is None
    assert refused(observer, "roll.item.added", 2) == "WL011"
    assert refused(observer, "roll.item.taken", 1) == "WL009"
    # A list that people wrote is the whole list.
    observer.execute("select wakelog.declare_family('roll', null)")
    observer.execute("select wakelog.declare_family('roll', array['roll.a'])")
    assert refused(observer, "roll.item.added", 1) == "WL009"


def test_a_list_of_an_older_program_takes_nothing_away(observer: psycopg.Connection[Any]) -> None:
    observer.execute(CLOSE, ["roll", '{"roll.a": [1, 2], "roll.b": [1]}', True])
    observer.execute("select wakelog.declare_family('roll', array['roll.a', 'roll.old'])")
    assert (observer.execute(KNOWN, ["roll"]).fetchone() or ())[:2] == (
        ["roll.a", "roll.b", "roll.old"], {"roll.a": [1, 2], "roll.b": [1]},
    )  # fmt: skip


def test_code_takes_a_list_of_types_over(observer: psycopg.Connection[Any]) -> None:
    observer.execute("select wakelog.declare_family('taken', array['taken.x'], true)")
    observer.execute(CLOSE, ["taken", '{"taken.a": [1]}', True])
    assert (observer.execute(KNOWN, ["taken"]).fetchone() or ())[:3] == (["taken.a"], {"taken.a": [1]}, True)


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        ('{"order.placed": 1}', "expected an object of arrays"),
        ("[1]", "expected an object of arrays"),
        (None, "expected an object of arrays"),
        ('{"other": [1]}', 'expected types that begin with "order", found "other"'),
    ],
)
def test_a_closing_that_makes_no_sense_is_refused(
    observer: psycopg.Connection[Any], versions: str | None, sentence: str
) -> None:
    with pytest.raises(psycopg.Error, match=sentence) as refusal:
        observer.execute(CLOSE, ["order", versions, True])
    assert refusal.value.sqlstate == "WL006"
    assert observer.execute("select count(*) from wakelog.families").fetchone() == (0,)
