import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from tests.worker.asking import append, claim, register, sequence, start_worker
from tests.worker.keeping import keeping
from tests.worker.waiting import one, until

# Each process notes what it has handled in a file of its own.
NOTING = """
def noting(name, **options):
    @app.agent(name, start="beginning", max_attempts=1, **options)
    async def handler(event, ctx):
        with (folder / f"{name}.{os.getpid()}").open("a") as notes: notes.write(f"{event.position}\\n")
        return None if name != "answering" else event.position
"""
STAYING = (
    NOTING
    + """
noting("all", on="tick.*")
noting("few", on="tick.3", where="$.n > 0")
noting("answering", on="tick.7")
"""
)
GUEST = (
    NOTING
    + """
noting("guest", on="tick.#")
"""
)
GUEST_CHANGED = (
    NOTING
    + """
noting("guest", on="tick.1")
"""
)
GUEST_AMONG_THEM = (
    STAYING
    + """
noting("guest", on="#")
"""
)


def handled(folder: Path, agent: str) -> Counter[int]:
    """How often each position was handled, over all processes."""
    return Counter(int(line) for path in folder.glob(f"{agent}.*[0-9]") for line in path.read_text().split())


def more_are_handled(folder: Path, agent: str, count: int) -> None:
    """Wait until so many more have been handled."""
    seen = len(handled(folder, agent))
    # One that comes anew has the whole log to go through first.
    until(lambda: len(handled(folder, agent)) > seen + count, within=120, every=0.1)


@contextmanager
def producing(url: str, rate: int) -> Iterator[None]:
    """Events of ten types, so many a second, in transactions of five, some rolled back, until the block ends."""
    ending = threading.Event()
    failures: list[BaseException] = []

    def produce() -> None:
        try:
            with psycopg.connect(url) as connection:
                began, appended = time.monotonic(), 0
                while not ending.is_set():
                    connection.execute(
                        """insert into wakelog.events (type, payload)
                           select 'tick.' || n %% 10, jsonb_build_object('n', n)
                           from generate_series(%s::int, %s::int) n""",
                        [appended, appended + 4],
                    )
                    if appended % 35 == 0:
                        connection.rollback()
                    connection.commit()
                    appended += 5
                    ending.wait(began + appended / rate - time.monotonic())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        assert not failures, failures


def change_agents_while_events_flow(
    connection: Connection[Any], url: str, start_workers: Callable[..., Any], folder: Path, *, rounds: int
) -> None:
    remove = "select wakelog.remove_agent('guest')"
    staying = start_workers(STAYING, processes=2)
    with producing(url, 500):
        for _ in range(rounds):
            guest = start_workers(GUEST)  # subscribed
            more = start_workers(STAYING)  # and one worker more for those that stay
            more_are_handled(folder, "guest", 100)
            changed = start_workers(GUEST_CHANGED)  # swapped
            guest.stop()
            connection.execute(remove)  # unsubscribed, under the worker that serves it
            more.stop()
            changed.stop()
            among = start_workers(GUEST_AMONG_THEM)
            connection.execute("select wakelog.remove_agent('guest')")
            more_are_handled(folder, "all", 200)
            among.stop()
            if one(connection, "select count(*) from wakelog.agents where name = 'guest'"):
                connection.execute(remove)
    quiet = "select bool_and(behind = 0 and in_flight = 0 and retrying = 0) from wakelog.lag"
    until(lambda: one(connection, quiet), within=60)
    wanted = {
        "all": "type like 'tick.%%'",
        "few": "type = 'tick.3' and (payload ->> 'n')::int > 0",
        "answering": "type = 'tick.7'",
    }
    for agent, condition in wanted.items():
        expected = connection.execute(
            f"select position from wakelog.log_events where {condition}"  # pyright: ignore
        ).fetchall()
        got = handled(folder, agent)
        assert set(got) == {position for (position,) in expected}, f"lost for {agent}"
        assert [position for position, times in got.items() if times > 1] == [], f"doubled for {agent}"
    assert one(connection, "select count(*) from wakelog.dead") == 0
    assert one(connection, "select coalesce(sum(stalled), 0) from wakelog.history") == 0
    answers = (
        "select count(*), count(distinct causation_id) from wakelog.events where type = 'answering.completed'"
    )
    assert connection.execute(answers).fetchone() == (len(handled(folder, "answering")),) * 2
    assert staying.supervisor.poll() is None


def test_those_that_stay_lose_nothing_and_get_nothing_twice(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    change_agents_while_events_flow(connection, database, start_workers, tmp_path, rounds=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_those_that_stay_lose_nothing_over_many_changes(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    change_agents_while_events_flow(connection, database, start_workers, tmp_path, rounds=20)


def test_an_agent_whose_patterns_are_swapped_gets_what_both_want_once(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    register = "select wakelog.register_agent('swapped', %s)"
    start_workers(NOTING + 'noting("swapped", on=["tick.1", "tick.2"])', processes=2)
    with producing(database, 500):
        for number in range(20):
            other = "tick.3" if number % 2 else "tick.*.x"
            connection.execute(register, [f'{{"types": ["tick.2", "{other}"], "history": false}}'])
            more_are_handled(tmp_path, "swapped", 5)
    until(lambda: one(connection, "select behind = 0 and in_flight = 0 from wakelog.lag"), within=60)
    got = handled(tmp_path, "swapped")
    both_want = connection.execute("select position from wakelog.log_events where type = 'tick.2'").fetchall()
    assert {position for (position,) in both_want} <= set(got)
    assert max(got.values()) == 1
    types = connection.execute(
        "select distinct type from wakelog.log_events where position = any (%s)", [list(got)]
    ).fetchall()
    assert {type_ for (type_,) in types} <= {"tick.1", "tick.2", "tick.3"}


def test_more_workers_of_one_agent_raise_its_rate_alone(
    connection: Connection[Any], start_workers: Callable[..., Any]
) -> None:
    slow = """
    @app.agent("{name}", on="work", start="beginning")
    async def {name}(event, ctx): await asyncio.sleep(0.1)  # long beside what the machine adds, busy or not
    """
    start_workers(slow.format(name="a"), slots=1)
    start_workers(slow.format(name="b"), slots=1)
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, 2000)")
    until(lambda: one(connection, "select count(distinct agent_id) from wakelog.history") == 2)

    of = """select h.started_at from wakelog.history h join wakelog.agents a on a.id = h.agent_id
            where a.name = %s and h.started_at > %s order by 1"""

    def rates() -> tuple[float, float]:
        """How often `a` begins for each time that `b` does, and how often `b` does; from now on.

        In the middle of many times: should the machine stand still for a while, that is one of them.
        """
        since = one(connection, "select clock_timestamp()")
        until(lambda: len(connection.execute(of, ["b", since]).fetchall()) > 20)
        a, b = ([at for (at,) in connection.execute(of, [name, since]).fetchall()] for name in "ab")
        for_each = [sum(earlier <= at < later for at in a) for earlier, later in pairwise(b)]
        return statistics.mean(sorted(for_each)[3:-3]), 1 / statistics.median(
            (later - earlier).total_seconds() for earlier, later in pairwise(b)
        )

    a_alone, b_alone = rates()
    start_workers(slow.format(name="a"), processes=2, slots=1)
    a_three, b_three = rates()
    print(f"\na: {a_alone:.1f} -> {a_three:.1f} for each of b, b: {b_alone:.1f}/s -> {b_three:.1f}/s")
    assert a_three > 2 * a_alone
    assert 0.7 * b_alone < b_three < 1.4 * b_alone


def test_an_agents_concurrency_is_never_exceeded_over_four_processes(
    connection: Connection[Any], start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    start_workers(
        """
        @app.agent("three", on="work", start="beginning", concurrency=3, backoff=Fixed(0.01))
        async def three(event, ctx):
            began = time.monotonic()
            await asyncio.sleep(0.03)
            with (folder / f"times.{os.getpid()}").open("a") as notes:
                notes.write(f"{began} {time.monotonic()}\\n")
            if event.position % 10 == 0 and ctx.attempt == 1: raise ValueError("again")
        """,
        processes=4,
        slots=1,
    )
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, 90)")
    most = 0
    while one(connection, "select count(*) from wakelog.history") < 90:
        most = max(most, one(connection, "select count(*) from wakelog.deliveries where worker is not null"))
    lines = [line for path in tmp_path.glob("times.*") for line in path.read_text().splitlines()]
    spans = [tuple(map(float, line.split())) for line in lines]
    assert len(spans) == 99
    moments = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    running, peak = 0, 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    # Whoever looks may miss the moment; the handlers themselves do not.
    assert most <= peak == 3
    assert len(list(tmp_path.glob("times.*"))) >= 3


def test_claims_at_the_same_moment_share_an_agents_concurrency(
    connection: Connection[Any], database: str
) -> None:
    register(connection, "three", "work", concurrency=3)
    append(connection, *["work"] * 9)
    sequence(connection)
    with (
        psycopg.connect(database) as first,
        psycopg.connect(database) as second,
        ThreadPoolExecutor(1) as thread,
    ):
        workers = start_worker(first, "three"), start_worker(second, "three")
        first.commit()
        second.commit()
        assert len(claim(first, "three", workers[0], limit=2)) == 2
        claimed = thread.submit(claim, second, "three", workers[1], 9)
        waits = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
        until(lambda: one(connection, waits, second.info.backend_pid))
        first.commit()
        assert len(claimed.result()) == 1


def test_a_place_that_becomes_free_is_taken_at_once(
    connection: Connection[Any], database: str, start_workers: Callable[..., Any], tmp_path: Path
) -> None:
    # The worker has room for more than the agent allows, and so it sleeps while three are running. Nobody looks by
    # himself for half a minute.
    with keeping(database, tmp_path, slow_look=30):
        start_workers("""
            import sys
            sys.modules["__main__"].POLL = 30

            @app.agent("three", on="work", start="beginning", concurrency=3)
            async def three(event, ctx): await asyncio.sleep(0.02)
        """, slots=10)  # fmt: skip
        connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, 60)")
        until(lambda: one(connection, "select count(*) from wakelog.history") == 60)
