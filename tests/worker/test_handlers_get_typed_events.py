"""Handlers get events as their models, old versions among them; what this code cannot read waits for code that can."""

from collections.abc import Callable

import psycopg
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

MODELS = """
from pydantic import BaseModel
from wakelog import closed_family, event_model, upcaster

@event_model("order.placed", version=2)
class OrderPlaced(BaseModel):
    total: int
    currency: str

@upcaster("order.placed", 1)
def add_currency(payload):
    return payload | {"currency": "EUR"}

@event_model("order.billed", version=2)
class OrderBilled(BaseModel):
    text: str

closed_family("order")

@event_model("billing.completed", version=4)
class Bill(BaseModel):
    number: int

@event_model("item.seen", version=2, closed=True)
class ItemSeen(BaseModel):
    name: str

@app.agent("billing", on="order.placed", start="beginning", backoff=Fixed(60))
async def bill(event, ctx):
    ctx.emit(OrderBilled(text=f"{event.data.total} {event.data.currency}"))
    return Bill(number=event.data.total)

@app.agent("counting", on="order.placed", start="beginning", batch=10, backoff=Fixed(60))
def count(events, ctx):
    return [event.data.total for event in events]
"""

INSERT = "insert into wakelog.events (type, schema_version, payload) values ('order.placed', %s, %s)"


def test_old_and_new_are_one_to_a_handler(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    connection.execute(INSERT, [1, '{"total": 1}'])
    connection.execute(INSERT, [2, '{"total": 2, "currency": "USD"}'])
    start_workers(MODELS)
    until(lambda: one(connection, "select count(*) from wakelog.history where outcome = 'completed'") == 4)
    said = "select payload ->> 'text' from wakelog.events where type = 'order.billed' and schema_version = 2 order by 1"
    assert connection.execute(said).fetchall() == [("1 EUR",), ("2 USD",)]
    bills = "select payload, schema_version from wakelog.events where type = 'billing.completed' order by payload::text"
    assert connection.execute(bills).fetchall() == [({"number": 1}, 4), ({"number": 2}, 4)]
    sums = "select sum(payload::int) from wakelog.events where type = 'counting.completed'"
    assert one(connection, sums) == 3


def test_what_cannot_be_read_is_a_failed_attempt_and_the_rest_of_the_batch_goes_on(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    connection.execute(INSERT, [3, '{"amount": {"of": "the future"}}'])
    connection.execute(INSERT, [1, '{"total": 1}'])
    start_workers(MODELS)
    until(lambda: one(connection, "select count(*) from wakelog.history where outcome = 'completed'") == 2)
    waiting = """select count(*) from wakelog.in_flight where position = 1 and state = 'waiting'
                 and last_error like 'order.placed: expected version 2 or older, found 3%%'"""
    until(lambda: one(connection, waiting) == 2)


def test_what_the_code_of_a_model_raises_is_the_failure_of_that_event_alone(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    connection.execute(INSERT, [1, '{"total": 1}'])
    connection.execute(INSERT, [1, '{"total": null}'])
    start_workers("""
        from pydantic import BaseModel, model_validator
        from wakelog import event_model

        @event_model("order.placed")
        class OrderPlaced(BaseModel):
            total: int

            @model_validator(mode="before")
            @classmethod
            def rounded(cls, value):
                return {"total": round(value["total"])}

        @app.agent("counting", on="order.placed", start="beginning", batch=10, max_attempts=1)
        def count(events, ctx):
            return [event.data.total for event in events]
    """)
    until(lambda: one(connection, "select count(*) from wakelog.history where outcome = 'completed'") == 1)
    until(lambda: one(connection, "select count(*) from wakelog.dead") == 1)
    ((position, error),) = connection.execute("select position, error from wakelog.dead_letters").fetchall()
    assert position == 2
    assert error.startswith("TypeError: ")


def test_a_worker_tells_the_database_what_is_closed(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses]
) -> None:
    connection.execute("select wakelog.declare_family('order', null, true)")
    start_workers(MODELS)
    assert connection.execute(
        "select family, types, must_match, versions from wakelog.families order by family"
    ).fetchall() == [
        ("item.seen", None, False, {"item.seen": [2]}),
        ("order", ["order.billed", "order.placed"], True, {"order.billed": [2], "order.placed": [1, 2]}),
    ]
