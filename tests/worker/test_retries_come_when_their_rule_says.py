"""When the next attempt begins: as really executed by workers, and, for what is random or far away, in the database."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.worker.keeping import keeping
from tests.worker.processes import WorkerProcesses
from tests.worker.waiting import one, until

TOLERANCE = 0.2
"""Seconds by which half of the attempts may be late. The others may be later, where the machine stands still meanwhile;
but not by as much as where nobody was woken for them, for by himself nobody looks for half a minute.
"""

APP = """
    import sys
    sys.modules["__main__"].POLL = 30

    def fails(event, ctx):
        raise ValueError(f"attempt {ctx.attempt}")

    async def fails_async(event, ctx):
        raise ValueError(f"attempt {ctx.attempt}")

    def says_when(event, ctx):
        raise RetryAfter(["300ms", 0.6, "0.1s"][ctx.attempt - 1], "busy")

    async def says_never(event, ctx):
        raise DoNotRetry("this is no use")

    def agent(name, handler, backoff, max_attempts=4):
        app.agent(name, on="work", start="beginning", backoff=backoff, max_attempts=max_attempts)(handler)

    agent("fixed", fails, Fixed(0.5))
    agent("fixed_async", fails_async, Fixed("400ms"))
    agent("exponential", fails, Exponential(0.15, max=0.6), max_attempts=6)
    agent("exponential_async", fails_async, Exponential(0.2), max_attempts=4)
    agent("jitter", fails, Fixed(0.6, jitter=0.5), max_attempts=5)
    agent("function", fails, lambda failures: 0.1 * failures ** 2, max_attempts=4)
    agent("function_of_text", fails_async, lambda failures: "250ms", max_attempts=3)
    agent("retry_after", says_when, Fixed(60))
    agent("do_not_retry", says_never, Fixed(60))
"""

# The shortest and the longest wait after each failure.
WAITS = {
    "fixed": [(0.5, 0.5)] * 3,
    "fixed_async": [(0.4, 0.4)] * 3,
    "exponential": [(w, w) for w in (0.15, 0.3, 0.6, 0.6, 0.6)],
    "exponential_async": [(w, w) for w in (0.2, 0.4, 0.8)],
    "jitter": [(0.3, 0.6)] * 4,
    "function": [(w, w) for w in (0.1, 0.4, 0.9)],
    "function_of_text": [(0.25, 0.25)] * 2,
    "retry_after": [(w, w) for w in (0.3, 0.6, 0.1)],
    "do_not_retry": [],
}


def test_attempts_begin_when_the_rule_says(
    connection: psycopg.Connection,
    database: str,
    start_workers: Callable[..., WorkerProcesses],
    tmp_path: Path,
) -> None:
    with keeping(database, tmp_path, slow_look=30):
        start_workers(APP, processes=2, slots=9)
        connection.execute("select wakelog.append('work')")
        until(lambda: one(connection, "select count(*) from wakelog.dead") == len(WAITS))

    waits: dict[str, list[float]] = {agent: [] for agent in WAITS}
    for agent, earlier, later in gaps(connection):
        waits[agent].append((later - earlier).total_seconds())
    assert {agent: len(found) for agent, found in waits.items()} == {a: len(w) for a, w in WAITS.items()}
    too_early = {
        agent: (waits[agent], expected)
        for agent, expected in WAITS.items()
        if any(wait < low for wait, (low, _) in zip(waits[agent], expected, strict=True))
    }
    assert too_early == {}
    late = {
        agent: [round(wait - high, 3) for wait, (_, high) in zip(waits[agent], expected, strict=True)]
        for agent, expected in WAITS.items()
    }
    assert median(by for of_one in late.values() for by in of_one) <= TOLERANCE, late
    assert (
        one(connection, "select reason from wakelog.dead_letters where agent = 'do_not_retry'")
        == "do_not_retry"
    )


AFTER = [1.2, 1.9, 2.6, 3.3, 4.0]
"""Seconds, so far apart that no short standstill makes most of them late."""


def test_a_retry_is_in_time_though_the_worker_that_failed_is_dead(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], tmp_path: Path
) -> None:
    """The doorkeeper rings somebody else for it, and does not wait for one of its looks a second."""
    workers = start_workers(
        """
        import sys
        sys.modules["__main__"].POLL = 30

        @app.agent("agent", on="work", start="beginning")
        def agent(event, ctx):
            if ctx.attempt == 1:
                (folder / f"failed.{event.position}").write_text(str(os.getpid()))
                while not (folder / "go on").exists(): time.sleep(0.01)
                raise RetryAfter(event.payload)
        """,
        processes=2,
        slots=len(AFTER),
    )
    connection.execute("select wakelog.append('work', to_jsonb(n)) from unnest(%s::float8[]) n", [AFTER])
    until(lambda: len(list(tmp_path.glob("failed.*"))) == len(AFTER))
    (tmp_path / "go on").touch()
    failed = """select (select count(*) from wakelog.deliveries where jsonb_array_length(failures) > 0)
                     + (select count(*) from wakelog.history)"""
    until(lambda: one(connection, failed) == len(AFTER))
    workers.kill(int(until((tmp_path / "failed.1").read_text)))
    until(lambda: one(connection, "select count(*) from wakelog.history") == len(AFTER))
    waits = connection.execute(
        """select extract(epoch from started_at - (failures -> 0 ->> 'failed_at')::timestamptz)::float8
           from wakelog.history order by position"""
    ).fetchall()
    late = [round(wait - after, 3) for (wait,), after in zip(waits, AFTER, strict=True)]
    assert min(late) >= 0
    assert median(late) <= TOLERANCE, late


SLOW_TO_END = {
    "it failed": ("raise ValueError('no luck')", 0.1),
    "it gave it back": ("raise GiveBack(0.1)", 0.1),
    "it lost its connection": (
        "ctx.connection.execute('select pg_terminate_backend(pg_backend_pid())')",
        0.5,
    ),
}


@pytest.mark.parametrize(("ends", "wait"), SLOW_TO_END.values(), ids=SLOW_TO_END.keys())
def test_it_is_in_time_though_the_worker_had_gone_to_sleep_beside_the_handler(
    connection: psycopg.Connection,
    database: str,
    start_workers: Callable[..., WorkerProcesses],
    tmp_path: Path,
    ends: str,
    wait: float,
) -> None:
    """Its sleep was to last longer, when it began, and nobody else will wake it."""
    with keeping(database, tmp_path, slow_look=30):
        start_workers(
            f"""
            import sys
            sys.modules["__main__"].POLL = 30

            @app.agent("agent", on="work", start="beginning", backoff=Fixed(0.1), max_attempts=9, max_stalled=9)
            def agent(event, ctx):
                began = time.time()
                time.sleep(0.2)
                with (folder / "times").open("a") as file: file.write(f"{{began}} {{time.time()}}\\n")
                if len((folder / "times").read_text().splitlines()) < 6:
                    {ends}
            """
        )
        connection.execute("select wakelog.append('work')")
        until(lambda: one(connection, "select count(*) from wakelog.history"))
    times = [[float(t) for t in line.split()] for line in (tmp_path / "times").read_text().splitlines()]
    waits = [began - ended for (_, ended), (began, _) in pairwise(times)]
    assert len(waits) == 5
    assert min(waits) >= wait
    assert median(waits) <= wait + TOLERANCE, waits


MISSED = """
    create function missed(tries integer) returns integer language plpgsql as $$
    declare
        missed integer := 0;
        due timestamptz;
    begin
        for n in 1 .. tries loop
            update wakelog.worker_sessions set asleep = true;
            update wakelog.deliveries set available_at = wakelog.clock() + make_interval(secs => n * 1e-6);
            due := wakelog.ring();
            if due is null and exists (select from wakelog.worker_sessions where asleep) then
                missed := missed + 1;
            end if;
        end loop;
        return missed;
    end $$
"""


def test_a_retry_that_becomes_due_while_a_ring_looks_is_rung_for_or_told(
    connection: psycopg.Connection,
) -> None:
    """Due in up to 0.6 ms, about as long as a ring takes: either the sleeper is rung, or the ring returns when."""
    options = Jsonb({"types": ["work"], "start": "beginning"})
    connection.execute("select wakelog.register_agent('agent', %s)", [options])
    connection.execute("select wakelog.append('work')")
    connection.execute("select wakelog.sequence()")
    worker = one(connection, "select wakelog.start_worker('sleeper', '{agent}')")
    assert one(connection, "select attempt from wakelog.claim('agent', %s)", worker) == 1
    connection.execute("select wakelog.release('agent', %s, '{1}', '{1}', '1 hour')", [worker])
    connection.execute("select wakelog.fall_asleep(%s, 1)", [worker])
    connection.execute(MISSED)
    assert one(connection, "select missed(600)") == 0


TOO_SLOW = {
    "async, its query takes too long": (
        "async def agent(event, ctx):\n"
        "    await ctx.connection.execute('set local statement_timeout = 50')\n"
        "    await ctx.connection.execute('select pg_sleep(600)')\n",
        "QueryCanceled: canceling statement due to statement timeout",
    ),
    "sync, its query takes too long": (
        "def agent(event, ctx):\n"
        "    ctx.connection.execute('set local statement_timeout = 50')\n"
        "    ctx.connection.execute('select pg_sleep(600)')\n",
        "QueryCanceled: canceling statement due to statement timeout",
    ),
    "its transaction idles too long": (
        "async def agent(event, ctx):\n"
        "    await ctx.connection.execute('set local idle_in_transaction_session_timeout = 50')\n"
        "    await asyncio.sleep(0.3)\n",
        "IdleInTransactionSessionTimeout: terminating connection due to idle-in-transaction timeout",
    ),
}


@pytest.mark.parametrize(("handler", "error"), TOO_SLOW.values(), ids=TOO_SLOW.keys())
def test_a_timeout_of_the_servers_is_a_failure(
    connection: psycopg.Connection, start_workers: Callable[..., WorkerProcesses], handler: str, error: str
) -> None:
    """Taken for a lost connection, which is nobody's fault, it would be tried for ever."""
    declare = 'app.agent("agent", on="work", start="beginning", max_attempts=2, backoff=Fixed(0))(agent)'
    start_workers(f"{handler}\n{declare}\n")
    connection.execute("select wakelog.append('work')")
    until(lambda: one(connection, "select count(*) from wakelog.dead"))
    letter = connection.execute("select attempts, stalled, error from wakelog.dead_letters").fetchone()
    assert letter == (2, 0, error)


@pytest.mark.parametrize(
    ("rule", "failures", "shortest", "longest"),
    [
        ({"kind": "fixed", "delay": 3}, 1, 3, 3),
        ({"kind": "fixed", "delay": 3}, 1_000_000, 3, 3),
        ({"kind": "exponential", "delay": 1, "max": 1e9}, 1, 1, 1),
        ({"kind": "exponential", "delay": 1.5, "max": 1e9}, 11, 1536, 1536),
        ({"kind": "exponential", "delay": 1, "max": 300}, 9, 256, 256),
        ({"kind": "exponential", "delay": 1, "max": 300}, 10, 300, 300),
        ({"kind": "exponential", "delay": 1, "max": 300}, 2_000_000_000, 300, 300),
        ({"kind": "fixed", "delay": 10, "jitter": 0.25}, 1, 7.5, 10),
        ({"kind": "exponential", "delay": 10, "max": 40, "jitter": 1}, 7, 0, 40),
    ],
)
def test_the_rule_and_its_bounds(
    connection: psycopg.Connection, rule: dict[str, Any], failures: int, shortest: float, longest: float
) -> None:
    row = connection.execute(
        "select min(b), max(b), count(distinct b) from (select extract(epoch from wakelog.backoff(%s, %s))::float8"
        "  from generate_series(1, 2000)) as x (b)",
        [Jsonb(rule), failures],
    ).fetchone()
    assert row is not None
    low, high, distinct = row
    assert shortest <= low <= high <= longest
    if shortest == longest:
        assert distinct == 1
    else:
        assert distinct > 1900
        assert low - shortest < 0.02 * (longest - shortest), "the whole range is used"
        assert longest - high < 0.02 * (longest - shortest)


def gaps(connection: psycopg.Connection) -> list[tuple[str, Any, Any]]:
    """From the end of each failed attempt to the beginning of the next one."""
    return connection.execute(
        "select d.agent, (f ->> 'failed_at')::timestamptz,"
        "       (d.failures -> n::int ->> 'started_at')::timestamptz"
        "  from wakelog.dead_letters d, jsonb_array_elements(d.failures) with ordinality as x (f, n)"
        "  where n < jsonb_array_length(d.failures) order by d.agent, n"
    ).fetchall()
