"""A claim of an agent that wants one type takes as long among 100,000 types as among 100."""

import time
from collections.abc import Callable
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
        self.claims = median(self._claim_the_wanted() for _ in range(ROUNDS))
        self.claims_in_vain = median(self._claim_in_vain() for _ in range(ROUNDS))
        self.claims_of_the_other = median(self._claim_any() for _ in range(ROUNDS))

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


@pytest.mark.parametrize(
    ("types", "seconds"), [(5_000, 5.0), pytest.param(100_000, 60.0, marks=[pytest.mark.soak])]
)
def test_a_claim_takes_as_long_as_among_few(
    server: ThrowawayPostgres, template: str, types: int, seconds: float
) -> None:
    logs: list[Log] = []
    for number in (100, types):
        with fresh_database(server, template) as url, psycopg.connect(url, autocommit=True) as connection:
            logs.append(Log(connection, types=number, events=types))
    few, many = logs
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
