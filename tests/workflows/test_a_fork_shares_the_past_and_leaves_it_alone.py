"""A fork at any point does what lies after it again, and only that; the workflow it came from stays as it was."""

from collections import Counter
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.worker.asking import ack, append, claim, register, rows_read, sequence, start_worker
from tests.worker.waiting import one

from wakelog import BadInput, Event, NothingToFork, RetryAfter, UnknownAgent, UnknownWorkflow, Wakelog
from wakelog.testing import LogUnderTest
from wakelog.workflows import fork, workflow_at

app = Wakelog("factory")

# order.placed -> plan -> 9 x part -> make -> polish -> assemble, once it has all -> ship: 30 events.
PARTS = 9
OUTCOMES = """
    select count(*) filter (where type in ('make.failed', 'polish.completed') and position <= %s),
           count(*) filter (where type = 'assembled')
    from wakelog.workflow_events(%s)
"""


polished: list[tuple[str, str]] = []
"""By workflow, what "polish" has done in this process."""


async def note(ctx, fact):
    await ctx.connection.execute(
        "insert into effects (agent, fact, workflow) values (%s, %s, %s)",
        [ctx.agent, str(fact), ctx.event.correlation_id],
    )


@app.agent("plan", on="order.placed")
async def plan(event, ctx):
    await note(ctx, "order")
    for n in range(PARTS):
        ctx.emit("part", {"n": n, "size": event.payload["size"]})
    return {"parts": PARTS}


@app.agent("make", on="part", max_attempts=1)
async def make(event, ctx):
    await note(ctx, event.payload["n"])
    if event.payload["n"] == 4:
        raise ValueError("broken")
    return event.payload


@app.agent("polish", on="make.completed")
async def polish(event, ctx):
    # Without ctx.connection: such deliveries are acknowledged many at a time, so their answers share a transaction.
    polished.append((event.correlation_id, str(event.payload["n"])))
    return event.payload


@app.agent("assemble", on=["make.failed", "polish.completed"])
async def assemble(event, ctx):
    await note(ctx, event.payload.get("n", "broken"))
    cursor = await ctx.connection.execute(OUTCOMES, [event.position, event.correlation_id])
    if await cursor.fetchone() == (
        PARTS,
        0,
    ):  # the last of them, by position; in a fork it may have been done before
        ctx.emit("assembled", {"parts": PARTS})


@app.agent("ship", on="assembled")
async def ship(event, ctx):
    await note(ctx, "parcel")
    return {"shipped": event.payload["parts"]}


@pytest.fixture
def order(log: LogUnderTest) -> Event:
    polished.clear()
    log.connection.execute("create table effects (agent text, fact text, workflow text)")
    event = log.append("order.placed", {"size": 7})
    log.run_until_idle(app)
    return event


@pytest.fixture
def connection(log: LogUnderTest) -> psycopg.Connection[Any]:
    return log.connection


def contents(connection: psycopg.Connection[Any], correlation: str) -> Counter[tuple[str, str]]:
    """The types and payloads of a workflow, whatever their order; without what is the log's to say."""
    events = connection.execute(
        "select type, (payload - 'position')::text from wakelog.workflow_events(%s)", [correlation]
    ).fetchall()
    return Counter((type_, payload) for type_, payload in events)


def effects(connection: psycopg.Connection[Any], correlation: str) -> Counter[tuple[str, str]]:
    found = connection.execute("select agent, fact from effects where workflow = %s", [correlation])
    return Counter((agent, fact) for agent, fact in found.fetchall()) + Counter(
        ("polish", fact) for workflow, fact in polished if workflow == correlation
    )


def rows_of(connection: psycopg.Connection[Any], upto: int) -> list[tuple[str, str]]:
    """Every row that tells of the positions up to one, as text."""
    found: list[tuple[str, str]] = []
    for table, column in [
        ("events", "seq"), ("log", "position"), ("deliveries", "position"), ("history", "position"),
        ("dead", "position"), ("steps", "position"),
    ]:  # fmt: skip
        query = sql.SQL("select t::text from wakelog.{} t where t.{} <= %s order by 1").format(
            sql.Identifier(table), sql.Identifier(column)
        )
        found += [(table, text) for (text,) in connection.execute(query, [upto])]
    return found


# What each agent did, when, and its answer's position: as the tables say it, not the functions.
DONE = """
    select a.name, coalesce(e.payload ->> 'n', case a.name when 'plan' then 'order' when 'ship' then 'parcel'
                                                           else 'broken' end),
           h.finished_at,
           (select min(l2.position) from wakelog.events x join wakelog.log l2 on l2.seq = x.seq
            where x.causation_id = e.id and x.source = a.name)
    from wakelog.history h join wakelog.agents a on a.id = h.agent_id
    join wakelog.log l on l.position = h.position join wakelog.events e on e.seq = l.seq
    where coalesce(e.correlation_id, e.id::text) = %s
"""


def test_at_every_event_of_a_workflow(log: LogUnderTest, order: Event) -> None:
    connection, whole = log.connection, order.correlation_id
    everything, all_effects = contents(connection, whole), effects(connection, whole)
    assert everything.total() == 30
    assert set(all_effects.values()) == {1}
    rows = rows_of(connection, 30)
    done = connection.execute(DONE, [whole]).fetchall()
    points = connection.execute(
        "select l.position, e.id, e.xid::text, l.sequenced_at"
        " from wakelog.log l join wakelog.events e on e.seq = l.seq order by 1"
    ).fetchall()

    forks = [fork(connection, whole, event=point[1]) for point in points]
    log.run_until_idle(app)
    assert rows_of(connection, 30) == rows
    assert effects(connection, whole) == all_effects

    for made, (position, _, xid, at) in zip(forks, points, strict=True):
        # What was committed together was there together.
        reached = max(position for position, _, committed_in, _ in points if committed_in == xid)
        before = {
            (agent, fact)
            for agent, fact, finished_at, answer in done
            if (finished_at <= at if answer is None else answer <= reached)
        }
        assert contents(connection, made) == everything, f"forked at {position}"
        assert set(effects(connection, made).values()) <= {1}
        assert set(effects(connection, made)) == set(all_effects) - before, f"forked at {position}"


def test_what_is_set_changes_the_outcome(log: LogUnderTest, order: Event) -> None:
    part = one(
        log.connection,
        "select position from wakelog.log_events where type = 'part' and payload @> '{\"n\": 4}'",
    )
    made = fork(log.connection, order.correlation_id, position=part, changes={"n": 44, "by": {"whom": "me"}})
    log.run_until_idle(app)
    now = Counter(type_ for type_, _ in contents(log.connection, made).elements())
    assert (now["make.completed"], now["make.failed"], now["ship.completed"]) == (PARTS, 0, 1)
    changed = next(e for e in workflow_at(log.connection, made).events if e.payload.get("n") == 44)
    assert changed.payload == {"n": 44, "size": 7, "by": {"whom": "me"}}
    assert one(
        log.connection,
        "select array[relation, other, changes::text] from wakelog.lineage where correlation_id = %s",
        made,
    ) == ["forked from", order.correlation_id, '{"n": 44, "by": {"whom": "me"}}']
    assert one(log.connection, "select other from wakelog.lineage where relation = 'forked as'") == made
    for path in ("nothing.there", "size.more", ""):
        with pytest.raises(BadInput, match="expected a place"):
            fork(log.connection, order.correlation_id, position=part, changes={path: 1})


def test_a_fork_of_a_fork_of_a_fork(log: LogUnderTest, order: Event) -> None:
    connection, whole = log.connection, order.correlation_id
    everything, line = contents(connection, whole), [whole]
    for type_ in ("polish.completed", "make.failed", "assembled"):
        before = effects(connection, line[-1])
        where = [event.position for event in workflow_at(connection, line[-1]).events if event.type == type_]
        line.append(fork(connection, line[-1], position=where[len(where) // 2]))
        log.run_until_idle(app)
        assert contents(connection, line[-1]) == everything
        assert effects(connection, line[-2]) == before
    assert effects(connection, line[-1])[("ship", "parcel")] == 1
    # In place of each event that was delivered anew stands the newest; its cause is the one that stands there, too.
    newest = workflow_at(connection, line[-1]).events
    there = {event.id for event in newest}
    assert [event.type for event in newest if event.cause not in there] == ["order.placed"]
    correlations = "select count(distinct correlation_id) from wakelog.workflow_events(%s)"
    assert one(connection, correlations, line[-1]) >= 3


def test_while_the_original_goes_on(connection: psycopg.Connection[Any]) -> None:
    register(connection, "work", "job")
    register(connection, "late", "job")
    worker = start_worker(connection, "work", "late")
    append(connection, "job", "note", correlation_id="w")
    sequence(connection)
    running = claim(connection, "work", worker)  # and "late" has not come to it
    made = fork(connection, "w", position=2)
    sequence(connection)
    told = [
        (event.type, sorted(work.agent for work in event.work))
        for event in workflow_at(connection, made).events
    ]
    assert told == [("job", ["late", "work"]), ("note", [])]
    ack(connection, "work", worker, running)
    for agent in ("work", "late"):
        ack(connection, agent, worker, claim(connection, agent, worker))
    for correlation in ("w", made):
        states = {w.state for event in workflow_at(connection, correlation).events for w in event.work}
        assert states == {"finished"}
    count = "select count(*) from wakelog.history h join wakelog.log_events e using (position)"
    assert one(connection, count + " where e.correlation_id = 'w'") == 2
    assert one(connection, count + " where e.correlation_id = %s", made) == 2


def test_a_copy_has_the_copy_of_its_cause(connection: psycopg.Connection[Any]) -> None:
    register(connection, "quick", "push")
    register(connection, "slow", "push")
    worker = start_worker(connection, "quick", "slow")
    append(connection, "push", correlation_id="w")
    sequence(connection)
    claim(connection, "slow", worker)
    claim(connection, "quick", worker)
    connection.execute("""select wakelog.ack('quick', 1, %s, 1, '{"ok": true}')""", [worker])
    sequence(connection)
    made = fork(connection, "w", position=2)
    sequence(connection)
    push, answer = workflow_at(connection, made).events
    assert (push.type, [work.agent for work in push.work]) == ("push", ["slow"])
    assert (answer.type, answer.causation_id, answer.cause) == ("quick.completed", push.id, push.id)


def test_each_copy_of_a_long_chain_costs_the_same(connection: psycopg.Connection[Any]) -> None:
    """The copy of a cause is looked up, and not looked for among all that were made before."""
    events = 400
    register(connection, "work", "job")
    append(connection, "note", correlation_id="w")
    connection.execute(
        """with recursive chain (n, id, cause) as (
               select 1, gen_random_uuid(), null::uuid
               union all
               select c.n + 1, gen_random_uuid(), c.id from chain c where c.n < %s)
           insert into wakelog.events (id, type, correlation_id, causation_id)
           select c.id, 'job', 'w', c.cause from chain c order by c.n""",
        [events],
    )
    sequence(connection)
    with connection.transaction():
        before = rows_read(connection, "copies")
        made = one(connection, "select wakelog.fork_workflow('w', p_position => 2)")
        assert rows_read(connection, "copies") - before <= 8 * events
    sequence(connection)
    copied = [event for event in workflow_at(connection, made).events if not event.shared]
    assert len(copied) == events
    assert [event.cause for event in copied[1:]] == [event.id for event in copied[:-1]]


STEPS = Wakelog("steps")


@STEPS.agent("checkout", on="order")
async def checkout(event, ctx):
    calls = ctx.connection
    charged = await ctx.step("charge", lambda: f"receipt {event.payload['n']}")
    if ctx.event.metadata.get("forked_from") is None:
        raise RetryAfter("1h")
    await calls.execute("select 1")
    return [charged, await ctx.step("ship", lambda: "sent")]


def test_steps_that_had_finished_are_inherited(log: LogUnderTest) -> None:
    connection = log.connection
    log.append("order", {"n": 1}, correlation_id="w")
    log.run_until_idle(STEPS)
    before_retry = one(connection, "select clock_timestamp()")
    made = fork(connection, "w", at=before_retry, changes={"n": 2})
    anew = fork(connection, "w", position=1, changes={"n": 2})
    log.run_until_idle(STEPS)
    answer = (
        "select payload from wakelog.log_events where type = 'checkout.completed' and correlation_id = %s"
    )
    # As of a moment after it the charge was done, and is not done again; from the event on it is.
    assert one(connection, answer, made) == ["receipt 1", "sent"]
    assert one(connection, answer, anew) == ["receipt 2", "sent"]
    (work,) = workflow_at(connection, made).events[0].work
    assert work.steps == ["charge", "ship"]


def test_only_the_agents_that_are_named_are_given_it(connection: psycopg.Connection[Any]) -> None:
    for agent in ("a", "b", "all"):
        register(
            connection,
            agent,
            "#" if agent == "all" else "job",
            **({"metadata": {"m": 1}} if agent == "b" else {}),
        )
    worker = start_worker(connection, "a", "b", "all")
    append(connection, "job", correlation_id="w", metadata={"m": 1})
    sequence(connection)
    for agent in ("a", "b", "all"):
        ack(connection, agent, worker, claim(connection, agent, worker))
    made = fork(connection, "w", position=1, agents=["a"])
    sequence(connection)
    register(connection, "later", "job")
    given = {agent: len(claim(connection, agent, worker)) for agent in ("a", "b", "all")}
    assert given == {"a": 1, "b": 0, "all": 0}
    assert len(claim(connection, "later", start_worker(connection, "later"))) == 1  # the original
    # Whenever they come by.
    connection.execute("select wakelog.rewind_agent('b', 1)")
    assert [position for position, _, _ in claim(connection, "b", worker)] == [1]
    ack(connection, "a", worker, [(2, 1, "job")])
    # What is forked from there is for the same.
    again = fork(connection, made, position=2)
    sequence(connection)
    assert [w.agent for event in workflow_at(connection, again).events for w in event.work] == ["a"]


def test_a_bounded_agent_makes_room_for_what_it_is_given_and_no_more(
    connection: psycopg.Connection[Any],
) -> None:
    register(connection, "bounded", "job", capacity=1)
    register(connection, "other", "job")
    append(connection, "job", correlation_id="w")
    sequence(connection)
    fork(connection, "w", position=1, agents=["other"])
    with pytest.raises(Exception, match='agent "bounded" has 1 unfinished'):
        fork(connection, "w", position=1)
    assert one(connection, "select count(*) from wakelog.forks") == 1


def test_a_copy_has_a_stream_of_its_own_and_no_key(connection: psycopg.Connection[Any]) -> None:
    for n in (1, 2):
        connection.execute(
            "select wakelog.append('order', p_stream => 'order-17', p_idempotency_key => %s, p_correlation_id => 'w',"
            " p_expected_version => %s)",
            [f"k{n}", n - 1],
        )
    sequence(connection)
    connection.execute("begin")
    connection.execute("insert into wakelog.events (type, correlation_id) values ('a', 'v'), ('b', 'v')")
    connection.execute("commit")
    sequence(connection)
    made = fork(connection, "w", position=2)
    sequence(connection)
    again = fork(connection, made, position=5)
    copies = connection.execute(
        "select stream, version, idempotency_key, source, metadata from wakelog.events"
        " where correlation_id = any (%s) order by seq",
        [[made, again]],
    ).fetchall()
    original = str(one(connection, "select id from wakelog.events where version = 2"))
    assert [copy[:4] for copy in copies] == [
        (f"order-17@{made}", 1, None, ""), (f"order-17@{again}", 1, None, ""),
    ]  # fmt: skip
    assert copies[0][4] == {"forked_from": {"workflow": "w", "event": original}}
    assert one(connection, "select max(version) from wakelog.events where stream = 'order-17'") == 2
    # Committed together, they are delivered together.
    both = fork(connection, "v", position=3)
    sequence(connection)
    assert [event.type for event in workflow_at(connection, both).events] == ["a", "b"]
    assert not any(event.shared for event in workflow_at(connection, both).events)


def test_what_cannot_be_forked_is_said(connection: psycopg.Connection[Any]) -> None:
    register(connection, "work", "job")
    worker = start_worker(connection, "work")
    append(connection, "job", "note", correlation_id="w")
    append(connection, "other", correlation_id="v")
    sequence(connection)
    ack(connection, "work", worker, claim(connection, "work", worker))
    now = one(connection, "select clock_timestamp()")
    with pytest.raises(UnknownWorkflow, match='no workflow "x"'):
        fork(connection, "x", position=1)
    with pytest.raises(UnknownAgent):
        fork(connection, "w", position=1, agents=["nobody"])
    with pytest.raises(BadInput, match="found 2 of them"):
        fork(connection, "w", position=1, at=now)
    with pytest.raises(BadInput, match="is not one of the workflow"):
        fork(connection, "w", event=one(connection, "select id from wakelog.events where type = 'other'"))
    with pytest.raises(BadInput, match="began at position 3"):
        fork(connection, "v", position=1)
    with pytest.raises(NothingToFork, match="for anybody"):
        fork(connection, "w", at=now)
    append(connection, "other", correlation_id="v")
    sequence(connection)
    with pytest.raises(NothingToFork, match="for anybody"):
        fork(connection, "w", position=4)  # an event of v: for w, a moment
    register(connection, "idle", "nothing")
    with pytest.raises(NothingToFork, match="for idle"):
        fork(connection, "w", position=1, agents=["idle"])
    append(connection, "job", "note", correlation_id="w")
    sequence(connection)
    with pytest.raises(NothingToFork, match="last event before the point, at position 6"):
        fork(connection, "w", at=one(connection, "select clock_timestamp()"), changes={"n": 1})
    assert one(connection, "select count(*) from wakelog.forks") == 0
    assert one(connection, "select count(*) from wakelog.events") == 6


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_forks_of_forks_at_random(log: LogUnderTest, order: Event, seed: int) -> None:
    connection, chance = log.connection, Random(seed)
    everything, lines = contents(connection, order.correlation_id), [order.correlation_id]
    for _ in range(5):
        before = [effects(connection, line) for line in lines]
        forks: list[str] = []
        for _ in range(8):
            parent = chance.choice(lines)
            point = chance.choice(workflow_at(connection, parent).events)
            forks.append(fork(connection, parent, event=point.id))
        log.run_until_idle(app)
        assert [effects(connection, line) for line in lines] == before
        for made in forks:
            assert contents(connection, made) == everything
            assert set(effects(connection, made).values()) <= {1}
            works = [work.state for event in workflow_at(connection, made).events for work in event.work]
            assert set(works) <= {"finished", "failed"}
        lines += forks
