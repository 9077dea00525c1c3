"""What is done about one delivery does not depend on how many others its agent has in hand, or wait for their time.

Counted in pages looked at, which do not depend on how busy the machine is.
"""

from typing import Any, LiteralString

import psycopg
import pytest
from tests.worker.asking import claim, one, register, rows_read, sequence, start_worker
from tests.worker.test_an_old_snapshot_slows_nobody_down import pages

FEW, MANY = 40, 4000


@pytest.fixture
def worker(connection: psycopg.Connection[Any]) -> int:
    connection.execute("select wakelog.register_agent('agent', '{\"types\": [\"work\"]}')")
    return one(connection, "select wakelog.start_worker('a test', '{agent}', false)")


def claimed(connection: psycopg.Connection[Any], worker: int, count: int) -> None:
    """Append so many events, and claim them; the planner is told nothing."""
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, %s)", [count])
    sequence(connection)
    assert len(claim(connection, "agent", worker, limit=count)) == count


def in_hand(connection: psycopg.Connection[Any], worker: int, count: int) -> None:
    """Append so many events, and claim them; the planner knows it."""
    claimed(connection, worker, count)
    connection.execute("vacuum analyze wakelog.deliveries")


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    "step",
    [
        "select wakelog.ack_many('agent', %(worker)s, %(positions)s, %(attempts)s)",
        "select wakelog.release('agent', %(worker)s, %(positions)s, %(attempts)s, '1 hour')",
        "select wakelog.heartbeat(%(worker)s, array_fill('agent'::text, array[10]), %(positions)s)",
        "select wakelog.stall('agent', %(worker)s, %(positions)s, %(attempts)s, 'it takes long', '1 hour')",
    ],
    ids=["ack", "release", "heartbeat", "stall"],
)
def test_nor_do_the_pages_looked_at(
    connection: psycopg.Connection[Any], worker: int, step: LiteralString
) -> None:
    def look(first: int) -> int:
        positions = list(range(first, first + 10))
        plan = psycopg.ClientCursor(connection).execute(
            f"explain (analyze, buffers, format json) {step}",
            {"worker": worker, "positions": positions, "attempts": [1] * 10},
        )
        top = (plan.fetchone() or [[]])[0][0]["Plan"]
        return top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    in_hand(connection, worker, FEW)
    look(1)  # plans and catalogues
    few = look(11)
    in_hand(connection, worker, MANY)
    look(21)
    many = look(31)
    assert many <= 2 * few + 20, f"{few} pages beside {FEW} others, {many} beside {MANY}"

    # The planner is told that there is next to nothing, as it is once much has been worked off; and then there is much.
    more: LiteralString = """
        insert into wakelog.deliveries (agent_id, position, worker, attempt, available_at, claimed_at, first_claimed_at)
        select d.agent_id, n, d.worker, 1, 'infinity', d.claimed_at, d.claimed_at
        from generate_series(%s, %s) n cross join (select * from wakelog.deliveries limit 1) d"""
    connection.execute(more, [10_000, 60_000])
    connection.execute("delete from wakelog.deliveries where position < 60000")
    connection.execute("vacuum analyze wakelog.deliveries")
    connection.execute(more, [100_000, 130_000])
    connection.execute("discard plans")
    look(100_000)
    many = look(100_010)
    assert many <= 2 * few + 20, f"{few} pages beside {FEW} others, {many} beside {MANY}"


@pytest.mark.every_postgres
def test_nor_a_claim_of_hundreds(connection: psycopg.Connection[Any], worker: int) -> None:
    claim: LiteralString = "select count(*) from wakelog.claim('agent', %s, %s)"
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, %s)", [MANY])
    connection.execute("select wakelog.sequence()")
    pages(connection, claim, worker, 10)
    few = pages(connection, claim, worker, 200) / 200
    many = pages(connection, claim, worker, MANY - 210) / (MANY - 210)
    assert many <= 1.5 * few + 2, f"{few} pages for each of 200, {many} for each of 2000"


@pytest.mark.every_postgres
def test_an_agent_that_wants_nearly_nothing_looks_no_further_than_it_is_told(
    connection: psycopg.Connection[Any], worker: int
) -> None:
    connection.execute(
        'select wakelog.register_agent(\'picky\', \'{"types": ["work"], "metadata": {"wanted": true}}\')'
    )
    connection.execute("insert into wakelog.events (type) select 'work' from generate_series(1, %s)", [MANY])
    connection.execute("select wakelog.sequence()")
    connection.execute("vacuum analyze wakelog.log, wakelog.events")
    wanted: LiteralString = """
        select wakelog.wanted_positions(a, 0, %s, 10) from wakelog.agents a where a.name = 'picky'"""
    pages(connection, wanted, 10)
    assert pages(connection, wanted, 100) < pages(connection, wanted, MANY) / 10


@pytest.mark.every_postgres
def test_nor_a_look_for_work_by_what_is_due_of_others(
    connection: psycopg.Connection[Any], worker: int
) -> None:
    connection.execute("alter table wakelog.deliveries set (autovacuum_enabled = off)")
    connection.execute("select wakelog.register_agent('other', '{\"types\": [\"else\"]}')")
    due: LiteralString = """
        insert into wakelog.deliveries (agent_id, position, attempt, available_at, claimed_at, first_claimed_at)
        select a.id, n, 1, '2020-01-01', '2020-01-01', '2020-01-01'
        from wakelog.agents a cross join generate_series(%s::bigint, %s::bigint) n where a.name = 'other'"""

    def look() -> int:
        return pages(connection, "select * from wakelog.ready_agents('{agent}')")

    connection.execute("analyze")
    look()  # plans, which are kept, and catalogues
    connection.execute(due, [1, FEW])
    few = look()
    connection.execute(due, [FEW + 1, MANY])
    many = look()
    assert many <= few + 5, f"{few} pages beside {FEW} others, {many} beside {MANY}"


@pytest.mark.every_postgres
@pytest.mark.parametrize("spread", ["0", "1 second"], ids=["of one moment", "one after the other"])
@pytest.mark.parametrize("told", [True, False], ids=["as it is", "as it was when there was nothing"])
def test_nor_a_claim_of_what_is_due(
    connection: psycopg.Connection[Any], worker: int, spread: str, told: bool
) -> None:
    """A claim takes the first of thousands, all to be tried again, and reads hardly another one."""
    connection.execute("vacuum analyze wakelog.deliveries")
    claimed(connection, worker, MANY)
    connection.execute(
        """update wakelog.deliveries
           set worker = null, available_at = wakelog.clock() - interval '1 day' + position * %s::interval""",
        [spread],
    )
    if told:
        connection.execute("vacuum analyze wakelog.deliveries")
    for after in range(3):
        with connection.transaction():
            before = rows_read(connection, "deliveries")
            found = connection.execute(
                "select position from wakelog.claim('agent', %s, 10)", [worker]
            ).fetchall()
            assert sorted(found) == [(10 * after + n,) for n in range(1, 11)]
            assert rows_read(connection, "deliveries") - before <= 200


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    "step",
    [
        "select wakelog.ack_many('agent', %(worker)s, %(positions)s, %(attempts)s)",
        "select wakelog.release('agent', %(worker)s, %(positions)s, %(attempts)s, '1 hour')",
        "select wakelog.heartbeat(%(worker)s, array_fill('agent'::text, array[10]), %(positions)s)",
        "select wakelog.stall('agent', %(worker)s, %(positions)s, %(attempts)s, 'it takes long', '1 hour')",
        "select wakelog.fail('agent', %(position)s, %(worker)s, 1, 'no luck', null, '1 hour')",
        "select wakelog.extend('agent', %(position)s, %(worker)s, 1)",
        "select wakelog.record_step('agent', %(position)s, %(worker)s, 1, 'step', '1')",
        "select wakelog.retry_dead('agent', %(dead)s)",
        "select wakelog.discard_dead('agent', %(dead)s)",
    ],
    ids=["ack", "release", "heartbeat", "stall", "fail", "extend", "step", "retry", "discard"],
)
def test_nor_what_a_session_does_that_has_planned_it_with_nothing_there(
    connection: psycopg.Connection[Any], worker: int, step: LiteralString
) -> None:
    """Plans are kept for as long as a session lives, and no statistics come in the middle of a rush."""

    def take(first: int) -> None:
        arguments = {
            "worker": worker, "positions": list(range(first, first + 10)), "attempts": [1] * 10,
            "position": first, "dead": MANY // 2 + first,
        }  # fmt: skip
        connection.execute(step, arguments)

    in_hand(connection, worker, 10)
    connection.execute("analyze wakelog.deliveries, wakelog.dead")
    for _ in range(8):
        with connection.transaction(force_rollback=True):
            take(1)
    claimed(connection, worker, MANY)
    connection.execute(
        """with dead as (delete from wakelog.deliveries d where d.position > %s returning d.*)
           insert into wakelog.dead
           select d.agent_id, d.position, 1, 0, 'max_attempts', null, null, now(), now() from dead d""",
        [MANY // 2],
    )
    with connection.transaction():
        before = rows_read(connection, "deliveries", "dead", "steps")
        take(200)
        assert 0 < rows_read(connection, "deliveries", "dead", "steps") - before <= 20


@pytest.mark.every_postgres
@pytest.mark.parametrize("told", [False, True], ids=["never analysed", "analysed when it was small"])
@pytest.mark.parametrize(
    "options",
    [
        {"ordered_by": "payload.key"},
        {"dedupe": {"by": "payload.key", "mode": "simple"}},
        {"dedupe": {"by": "payload.key", "mode": "throttle", "window": 60}},
        {"dedupe": {"by": "payload.key", "mode": "debounce", "window": 60}},
        {"dedupe": {"by": "payload.key", "mode": "keep_last"}},
        {"expires": 3600},
        {"rate": {"count": 100000, "window": 60}},
        {"capacity": 100000},
        {"capacity": 1000, "overflow": "drop_oldest"},
    ],
    ids=[
        "ordered",
        "simple",
        "throttle",
        "debounce",
        "keep last",
        "expires",
        "rate",
        "capacity",
        "drop oldest",
    ],
)
def test_nor_what_is_claimed_and_finished_by_a_session_that_began_with_nothing_there(
    connection: psycopg.Connection[Any], options: dict[str, Any], told: bool
) -> None:
    register(connection, "agent", "work", **options)
    worker = start_worker(connection, "agent")

    def more(count: int) -> None:
        connection.execute(
            """insert into wakelog.events (type, payload)
               select 'work', jsonb_build_object('key', n %% 1000) from generate_series(1, %s) n""",
            [count],
        )
        sequence(connection)

    def turn() -> None:
        claimed = claim(connection, "agent", worker, limit=10)
        connection.execute(
            "select wakelog.ack_many('agent', %s, %s, %s)",
            [worker, [position for position, _, _ in claimed], [attempt for _, attempt, _ in claimed]],
        )

    for _ in range(8):
        more(2)
        turn()
        if told:
            connection.execute("analyze")
    more(MANY)
    for _ in range(2):
        turn()
    with connection.transaction():
        before = rows_read(connection, "deliveries", "slots", "dropped", "dead", "starts")
        turn()
        assert rows_read(connection, "deliveries", "slots", "dropped", "dead", "starts") - before <= 1500


@pytest.mark.every_postgres
@pytest.mark.parametrize("told", [False, True], ids=["never analysed", "analysed when it was small"])
@pytest.mark.parametrize(
    "look", ["select wakelog.ring()", "select wakelog.reap_workers()", "select * from wakelog.ready_agents()"]
)
def test_nor_do_the_looks_of_a_doorkeeper_that_began_with_nothing_there(
    connection: psycopg.Connection[Any], worker: int, look: LiteralString, told: bool
) -> None:
    in_hand(connection, worker, 10)
    if told:
        connection.execute("analyze wakelog.deliveries")
    for _ in range(8):
        connection.execute(look)
    claimed(connection, worker, MANY)
    with connection.transaction():
        before = rows_read(connection, "deliveries")
        connection.execute(look)
        assert rows_read(connection, "deliveries") - before <= 10
