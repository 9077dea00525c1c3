"""An agent with `batch` gets lists; what it did for one is committed with what it did for the others, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb
from tests.worker.asking import append
from tests.worker.waiting import one, until

Start = Callable[..., Any]
UP_TO_DATE = "select bool_and(behind + in_flight + retrying = 0) from wakelog.lag"


def fill(connection: Connection[Any], count: int, type_: str = "row", **columns: str) -> None:
    """Append so many events at once, numbered from 1."""
    connection.execute(
        """insert into wakelog.events (type, payload)
           select %s, jsonb_build_object('n', n) || %s from generate_series(1, %s) n""",
        [type_, Jsonb(columns), count],
    )
    connection.execute("select wakelog.sequence()")


def test_effects_answers_and_acknowledgements_are_one_commit(
    connection: Connection[Any], start_workers: Start
) -> None:
    connection.execute("create table effects (n int, size int, handler text)")
    fill(connection, 1000)
    start_workers("""
        INTO = "insert into effects values (%s, %s, %s)"

        @app.agent("later", on="row", start="beginning", batch=300)
        async def later(events, ctx):
            async with ctx.connection.cursor() as cursor:
                await cursor.executemany(INTO, [(e.payload["n"], len(events), "later") for e in events])
            for event in events:
                if event.payload["n"] % 100 == 0:
                    ctx.emit("hundred", {"n": event.payload["n"]}, answers=event, key="the same for each")
            return [e.payload["n"] if e.payload["n"] % 10 == 0 else None for e in events]

        @app.agent("now", on="row", start="beginning", batch=300)
        def now(events, ctx):
            with ctx.connection.cursor() as cursor:
                cursor.executemany(INTO, [(e.payload["n"], len(events), "now") for e in events])
    """)
    until(lambda: one(connection, UP_TO_DATE))
    assert one(connection, "select count(distinct (handler, n)) from effects") == 2000
    assert one(connection, "select count(*) from effects") == 2000
    # As many as there were, never more than were asked for.
    assert one(connection, "select max(size) from effects") == 300
    # A batch is one transaction: effects, records and answers carry its id.
    apart = one(
        connection,
        """select count(*) from effects f
           join wakelog.log_events e on e.type = 'row' and (e.payload -> 'n')::int = f.n
           join wakelog.agents a on a.name = f.handler
           join wakelog.history h on h.agent_id = a.id and h.position = e.position
           where h.xmin = f.xmin""",
    )
    assert apart == 2000
    assert one(connection, "select count(distinct xmin::text) from effects") <= 10
    answers = connection.execute(
        """select e.type, count(*), bool_and(e.payload in (cause.payload, cause.payload -> 'n')),
                  bool_and(exists (select from effects f where f.xmin::text = e.xid::text))
           from wakelog.events e join wakelog.events cause on cause.id = e.causation_id group by 1 order by 1"""
    ).fetchall()
    assert answers == [("hundred", 10, True, True), ("later.completed", 100, True, True)]


def test_a_worker_killed_in_the_middle_of_a_batch_leaves_nothing_of_it(
    connection: Connection[Any], start_workers: Start, tmp_path: Path
) -> None:
    connection.execute("create table effects (n int)")
    fill(connection, 200)
    workers = start_workers(
        """
        @app.agent("loader", on="row", start="beginning", batch=200)
        async def loader(events, ctx):
            async with ctx.connection.cursor() as cursor:
                await cursor.executemany("insert into effects values (%s)", [[e.payload["n"]] for e in events])
            if not (folder / "wrote").exists():
                (folder / "wrote").touch()
                await asyncio.sleep(60)
        """,
        slots=1,
    )
    until((tmp_path / "wrote").exists)
    (pid,) = workers.pids().values()
    workers.kill(pid)
    until(lambda: one(connection, UP_TO_DATE))
    assert one(connection, "select count(*) from effects") == 200
    assert one(connection, "select count(distinct n) from effects") == 200
    assert connection.execute("select distinct attempts, stalled from wakelog.history").fetchall() == [(2, 1)]


def test_single_ones_fail_and_the_others_are_done(
    connection: Connection[Any], start_workers: Start, tmp_path: Path
) -> None:
    connection.execute("create table effects (n int)")
    fill(connection, 20)
    workers = start_workers("""
        @app.agent("loader", on="row", start="beginning", batch=100, max_attempts=2, backoff=Fixed("1h"))
        async def loader(events, ctx):
            for event in events:
                n = event.payload["n"]
                ctx.emit("seen", answers=event)
                if n == 3: ctx.fail(event, ValueError("three"), retry_after=0)
                elif n == 5: ctx.fail(event, DoNotRetry("five"))
                elif n == 7: ctx.fail(event, "seven")
                else: await ctx.connection.execute("insert into effects values (%s)", [n])
            (folder / f"{len(events)} events").touch()
            return [event.payload for event in events]
    """)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 2)
    dead = connection.execute(
        "select (payload -> 'n')::int, reason, error, attempts from wakelog.dead_letters order by 1"
    ).fetchall()
    assert dead == [(3, "max_attempts", "ValueError: three", 2), (5, "do_not_retry", "five", 1)]
    left = connection.execute("select state, last_error from wakelog.in_flight").fetchall()
    assert left == [("waiting", "seven")]
    assert one(connection, "select count(*) from effects") == 17
    for answer in ("seen", "loader.completed"):
        assert one(connection, "select count(*) from wakelog.events where type = %s", answer) == 17
    assert {path.name for path in tmp_path.glob("* events")} == {"20 events", "1 events"}
    assert "ValueError: three" in workers.said()


def test_a_bad_event_takes_the_others_down_once(connection: Connection[Any], start_workers: Start) -> None:
    connection.execute("create table calls (size int)")
    fill(connection, 50)
    start_workers(
        """
        import psycopg

        @app.agent("loader", on="row", start="beginning", batch=100, backoff=Fixed(0.05), max_attempts=3)
        def loader(events, ctx):
            with psycopg.connect(os.environ["WAKELOG_WORKER_DATABASE"]) as own:
                own.execute("insert into calls values (%s)", [len(events)])
            assert all(event.payload["n"] != 13 for event in events)
        """,
        slots=2,
    )
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 1)
    until(lambda: one(connection, UP_TO_DATE))
    assert one(connection, "select payload from wakelog.dead_letters") == {"n": 13}
    # Once all together, and then each alone; the bad one three times in all.
    calls = connection.execute("select size, count(*) from calls group by 1 order by 1").fetchall()
    assert calls == [(1, 51), (50, 1)]
    assert connection.execute(
        "select distinct attempts from wakelog.history where outcome = 'completed'"
    ).fetchall() == [(2,)]


def test_one_lost_lease_rolls_all_of_it_back(
    connection: Connection[Any], start_workers: Start, tmp_path: Path
) -> None:
    connection.execute("create table effects (n int, attempt int)")
    fill(connection, 3)
    workers = start_workers("""
        @app.agent("loader", on="row", start="beginning", batch=10)
        async def loader(events, ctx):
            for event in events:
                await ctx.connection.execute("insert into effects values (%s, %s)", [event.payload["n"], ctx.attempt])
            if len(events) == 3:
                (folder / "wrote").touch()
                while not (folder / "go on").exists(): await asyncio.sleep(0.01)
    """)
    until((tmp_path / "wrote").exists)
    # As the database takes one away from a worker that it believes dead.
    connection.execute("update wakelog.deliveries set available_at = clock_timestamp() where position = 2")
    until(lambda: one(connection, "select n from effects") == 2)
    (tmp_path / "go on").touch()
    until(lambda: one(connection, UP_TO_DATE))
    assert 'no longer holds attempt 1 of agent "loader" at position 2' in workers.said()
    # The other two were given back at once: their lease of 30 seconds was not waited for, and no attempt counts.
    effects = connection.execute("select n, attempt from effects order by n").fetchall()
    assert effects == [(1, 1), (2, 2), (3, 1)]


def test_the_time_limit_is_the_whole_batchs(connection: Connection[Any], start_workers: Start) -> None:
    fill(connection, 5)
    fill(connection, 5, "spin")
    start_workers("""
        @app.agent("sleeps", on="row", start="beginning", batch=10, timeout=0.3, max_attempts=1)
        async def sleeps(events, ctx):
            await asyncio.sleep(60)

        @app.agent("spins", on="spin", start="beginning", batch=10, timeout=0.3, max_attempts=1)
        async def spins(events, ctx):
            while True: pass
    """)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 10)
    assert connection.execute("select distinct error from wakelog.dead_letters").fetchall() == [
        ("the time limit of 0.3 s passed",)
    ]


def test_work_in_order_comes_one_of_a_key_at_a_time(
    connection: Connection[Any], start_workers: Start
) -> None:
    connection.execute(
        "create table effects (id bigint generated always as identity, key int, n int, batch text)"
    )
    connection.execute(
        """insert into wakelog.events (type, payload)
           select 'row', jsonb_build_object('key', n % 5, 'n', n) from generate_series(1, 60) n"""
    )  # fmt: skip
    start_workers(
        """
        import uuid

        INTO = "insert into effects (key, n, batch) values (%s, %s, %s)"

        @app.agent("loader", on="row", start="beginning", batch=50, ordered_by="payload.key", backoff=Fixed(0.05))
        async def loader(events, ctx):
            batch = str(uuid.uuid4())
            for event in events:
                key, n = event.payload["key"], event.payload["n"]
                if n == 22 and ctx.attempt == 1: ctx.fail(event, "not yet")
                else: await ctx.connection.execute(INTO, [key, n, batch])
        """,
        processes=2,
    )
    until(lambda: one(connection, "select count(*) = 60 from effects"))
    assert (
        one(
            connection, "select count(*) from (select from effects group by batch, key having count(*) > 1) x"
        )
        == 0
    )
    assert one(connection, "select max(count) > 1 from (select count(*) from effects group by batch) x")
    by_key = connection.execute(
        "select key, array_agg(n order by id) from effects group by key order by key"
    ).fetchall()
    assert by_key == [(key, [n for n in range(1, 61) if n % 5 == key]) for key in range(5)]


def test_what_a_batch_cannot_do_is_said_in_a_sentence(
    connection: Connection[Any], start_workers: Start
) -> None:
    kinds = ["step", "event", "emit", "foreign", "short", "dict", "twice"]
    for kind in kinds:
        append(connection, kind)
    start_workers("""
        def declare(kind, do):
            @app.agent(f"on_{kind}", on=kind, start="beginning", batch=10, max_attempts=1)
            def handler(events, ctx): return do(events, ctx)

        declare("step", lambda events, ctx: ctx.step("charge", int))
        declare("event", lambda events, ctx: ctx.event)
        declare("emit", lambda events, ctx: ctx.emit("more"))
        declare("foreign", lambda events, ctx: ctx.fail(None, "no"))
        declare("short", lambda events, ctx: [1, 2])
        declare("dict", lambda events, ctx: {"n": 1})
        declare("twice", lambda events, ctx: [ctx.emit("more", answers=events[0], key="a") for _ in range(2)])
    """)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == len(kinds))
    said = dict(connection.execute("select type, error from wakelog.dead_letters").fetchall())
    expected = {
        "step": "expected no ctx.step, which belongs to a single event",
        "event": "takes batches, where there is no ctx.event; see ctx.events",
        "emit": 'expected the event that "more" answers, found none',
        "foreign": "expected an event of this batch",
        "short": "expected None or a list of 1 results, one for each event and None where there is none, found 2",
        "dict": "found dict",
        "twice": 'expected a key of its own for each event, found "a" again',
    }
    for kind, sentence in expected.items():
        assert sentence in said[kind], kind


def test_events_are_given_back_retried_later_and_set_aside_together(
    connection: Connection[Any], start_workers: Start, tmp_path: Path
) -> None:
    fill(connection, 4, "back")
    fill(connection, 4, "later")
    fill(connection, 4, "never")
    fill(connection, 4, "deep")
    # jsonb holds it, Python reads no list so deep.
    deep = "insert into wakelog.events (type, payload) select 'deep', (repeat('[', 5000) || repeat(']', 5000))::jsonb"
    connection.execute(deep)
    start_workers("""
        def once(kind):
            try: (folder / kind).touch(exist_ok=False)
            except FileExistsError: return False
            return True

        @app.agent("back", on="back", start="beginning", batch=10)
        async def back(events, ctx):
            if once("back"): raise GiveBack()
            await ctx.extend("1m")
            return [[ctx.attempt, len(events)] for _ in events]

        @app.agent("later", on="later", start="beginning", batch=10, backoff=Fixed("1h"))
        async def later(events, ctx):
            if once("later"): raise RetryAfter(0)
            return [[ctx.attempt, len(events)] for _ in events]

        @app.agent("never", on="never", start="beginning", batch=10)
        async def never(events, ctx): raise DoNotRetry("never")

        @app.agent("deep", on="deep", start="beginning", batch=10, max_attempts=1)
        async def deep(events, ctx): return [[ctx.attempt, len(events)] for _ in events]
    """)
    until(lambda: one(connection, UP_TO_DATE))
    results = connection.execute(
        """select type, payload, count(*) from wakelog.events where type like '%.completed'
           group by 1, 2 order by 1"""
    ).fetchall()  # fmt: skip
    assert results == [
        ("back.completed", [1, 4], 4), ("deep.completed", [1, 4], 4), ("later.completed", [2, 1], 4),
    ]  # fmt: skip
    dead = connection.execute(
        "select agent, count(*), min(error) from wakelog.dead_letters group by 1 order by 1"
    ).fetchall()
    assert [(agent, count) for agent, count, _ in dead] == [("deep", 1), ("never", 4)]
    assert "cannot be read in Python" in dead[0][2]


def test_an_answer_that_is_refused_does_not_refuse_the_others(
    connection: Connection[Any], start_workers: Start
) -> None:
    fill(connection, 10)
    connection.execute(
        "alter table wakelog.events add constraint no_four check (type <> 'seen' or payload <> '4')"
    )
    start_workers("""
        @app.agent("loader", on="row", start="beginning", batch=10, max_attempts=1)
        async def loader(events, ctx):
            for event in events: ctx.emit("seen", event.payload["n"], answers=event)
    """)
    until(lambda: one(connection, "select count(*) from wakelog.dead_letters") == 1)
    until(lambda: one(connection, "select count(*) from wakelog.events where type = 'seen'") == 9)


def test_a_shutdown_gives_back_what_has_not_ended(
    connection: Connection[Any], start_workers: Start, tmp_path: Path
) -> None:
    fill(connection, 30)
    workers = start_workers(
        """
        @app.agent("loader", on="row", start="beginning", batch=10)
        async def loader(events, ctx):
            (folder / "began").touch()
            await asyncio.sleep(60)
        """,
        slots=2,
        grace=0.1,
    )
    until((tmp_path / "began").exists)
    assert workers.stop() == 0
    assert connection.execute(
        "select distinct worker, attempt, stalled from wakelog.deliveries"
    ).fetchall() == [(None, 0, 0)]


def test_events_handed_over_alone_do_not_keep_other_agents_waiting(
    connection: Connection[Any], start_workers: Start
) -> None:
    fill(connection, 300)
    start_workers(
        """
        @app.agent("loader", on="row", start="beginning", batch=300, backoff=Fixed(0.05))
        async def loader(events, ctx):
            if len(events) > 1: raise ValueError("not together")
            await asyncio.sleep(0.1)
            return [1]

        @app.agent("other", on="other", start="beginning")
        async def other(event, ctx): return 1
        """,
        slots=2,
    )
    done = "select count(*) from wakelog.log_events where type = %s"
    until(lambda: one(connection, done, "loader.completed"))
    append(connection, "other")
    until(lambda: one(connection, done, "other.completed"))
    # Told by the log, in which nobody who looks can be late.
    between = """
        select count(*) from wakelog.log_events l
        where l.type = 'loader.completed'
          and l.position between (select position from wakelog.log_events where type = 'other')
                             and (select position from wakelog.log_events where type = 'other.completed')"""
    assert one(connection, between) < 30
