"""A process that is importing is not a frozen one."""

from collections.abc import Callable
from typing import Any

from psycopg import Connection
from tests.worker.asking import append
from tests.worker.waiting import one, until


def test_an_application_may_take_longer_than_its_lease_to_import(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    append(connection, "a")
    start_workers("""
        time.sleep(7.5)

        @app.agent("slow", on="a", start="beginning")
        def slow(event, ctx): return 1
    """, lease=1.0, silence=6.0)  # fmt: skip
    until(lambda: one(connection, "select count(*) from wakelog.events where type = 'slow.completed'") == 1)
