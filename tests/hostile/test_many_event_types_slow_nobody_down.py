"""A claim of an agent that wants one type takes as long among 100,000 types as among 100."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import ack, append, claim, register, sequence, start_worker
from tests.worker.waiting import one

from wakelog.testing import ThrowawayPostgres
from wakelog.testing.databases import fresh_database

ROUNDS = 40
LOAD = """
insert into wakelog.events (type)
select 'kind.t' || n %% %s from generate_series(1, %s) n
"""


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Log:
    """A log with so many types, and what things take there, in seconds."""

    def __init__(self, connection: Connection[Any], *, types: int, events: int) -> None:
        self._connection = connection
        register(connection, "one", "wanted", start="now")
        connection.execute(LOAD, [types, events])
        self.sequencing = timed(lambda: sequence(connection))
        assert one(connection, "select count(*) from wakelog.types") == types
        assert one(connection, "select head from wakelog.sequencer") == events
        self.registration = timed(lambda: register(connection, "all", "kind.#"))
        matched = "select count(*) from wakelog.agent_types t join wakelog.agents a on a.id = t.agent_id"
        assert one(connection, matched + " where a.name = 'all'") == types
        self._worker = start_worker(connection, "one", "all")
        self._claim("one", expected=0)  # goes past all that was loaded
        self._took: dict[str, list[float]] = {"wanted": [], "in vain": [], "of the other": []}

    def claim(self) -> None:
        """Once of each kind."""
        self._took["wanted"].append(self._claim_the_wanted())
        self._took["in vain"].append(self._claim_in_vain())
        self._took["of the other"].append(self._claim_any())

    @property
    def claims(self) -> float:
        return median(self._took["wanted"])

    @property
    def claims_in_vain(self) -> float:
        return median(self._took["in vain"])

    @property
    def claims_of_the_other(self) -> float:
        return median(self._took["of the other"])

    def _claim_the_wanted(self) -> float:
        """Of five events one is wanted, and handed out."""
        append(self._connection, *["kind.t1"] * 4, "wanted")
        sequence(self._connection)
        return self._claim("one", expected=1)

    def _claim_in_vain(self) -> float:
        append(self._connection, *["kind.t1"] * 5)
        sequence(self._connection)
        return self._claim("one", expected=0)

    def _claim_any(self) -> float:
        return self._claim("all", expected=10)

    def _claim(self, agent: str, *, expected: int) -> float:
        began = time.perf_counter()
        found = claim(self._connection, agent, self._worker, 10)
        took = time.perf_counter() - began
        assert len(found) == expected
        ack(self._connection, agent, self._worker, found)
        return took


def _fresh_log(stack: ExitStack, server: ThrowawayPostgres, template: str) -> Connection[Any]:
    url = stack.enter_context(fresh_database(server, template))
    return stack.enter_context(psycopg.connect(url, autocommit=True))


@pytest.mark.parametrize(
    ("types", "seconds"), [(5_000, 5.0), pytest.param(100_000, 60.0, marks=[pytest.mark.soak])]
)
def test_a_claim_takes_as_long_as_among_few(
    server: ThrowawayPostgres, template: str, types: int, seconds: float
) -> None:
    with ExitStack() as stack:
        few, many = (
            Log(_fresh_log(stack, server, template), types=number, events=types) for number in (100, types)
        )
        # In turns, so that whatever else the machine does, it does to both.
        for _ in range(ROUNDS):
            few.claim()
            many.claim()
    for log, number in ((few, 100), (many, types)):
        print(
            f"\n{number:,} types, {types:,} events: sequenced in {log.sequencing:.2f} s, a pattern registered in "
            f"{log.registration * 1000:.0f} ms; claims: {log.claims * 1000:.2f} ms, in vain "
            f"{log.claims_in_vain * 1000:.2f} ms, of all the kinds {log.claims_of_the_other * 1000:.2f} ms"
        )
    # Twice as long would be far from proportional; half a millisecond on top, for a machine that is busy.
    assert many.claims < 2 * few.claims + 0.0005
    assert many.claims_in_vain < 2 * few.claims_in_vain + 0.0005
    assert many.claims_of_the_other < 1.0
    assert many.sequencing < seconds
    assert many.registration < seconds
