import random
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb
from tests.worker.asking import ack, append, claim, register, sequence, start_worker
from tests.worker.waiting import one


def claimed(connection: Connection[Any], agent: str) -> list[str]:
    """The types of everything an agent gets."""
    worker = start_worker(connection, agent)
    return [type_ for _, _, type_ in claim(connection, agent, worker)]


# Tutorial five of RabbitMQ, verbatim.
TOPICS = {
    "quick.orange.rabbit": "Q1, Q2",
    "lazy.orange.elephant": "Q1, Q2",
    "quick.orange.fox": "Q1",
    "lazy.brown.fox": "Q2",
    "lazy.pink.rabbit": "Q2",
    "quick.brown.fox": "none",
    "orange": "none",
    "quick.orange.new.rabbit": "none",
    "lazy.orange.new.rabbit": "Q2",
}


@pytest.mark.parametrize("known_first", [False, True], ids=["types are new", "types are known"])
def test_types_are_routed_as_by_a_topic_exchange(connection: Connection[Any], known_first: bool) -> None:
    def register_both() -> None:
        register(connection, "Q1", "*.orange.*")
        register(connection, "Q2", "*.*.rabbit", "lazy.#")

    if not known_first:
        register_both()
    append(connection, *TOPICS)
    sequence(connection)
    if known_first:
        register_both()
    for agent in ("Q1", "Q2"):
        # Each once, in log order, also where two patterns match (lazy.pink.rabbit).
        assert claimed(connection, agent) == [key for key, queues in TOPICS.items() if agent in queues]


WORDS = {
    "#": "a a.b a.b.c z.a x+y.a straße.a a-b",
    "*": "a a-b",
    "*.*": "a.b z.a x+y.a straße.a",
    "a.#": "a a.b a.b.c",
    "#.a": "a z.a x+y.a straße.a",
    "a.#.c": "a.b.c",
    "#.b.#": "a.b a.b.c",
    "a.*.#": "a.b a.b.c",
    "x+y.*": "x+y.a",
    "straße.#": "straße.a",
    "a-b": "a-b",
    "A": "",
    "a.b.c.d": "",
}


def test_a_star_is_one_word_and_a_hash_any_number(connection: Connection[Any]) -> None:
    append(connection, "a", "a.b", "a.b.c", "z.a", "x+y.a", "straße.a", "a-b")
    sequence(connection)
    for number, pattern in enumerate(WORDS):
        register(connection, f"agent{number}", pattern)
    got = {pattern: claimed(connection, f"agent{number}") for number, pattern in enumerate(WORDS)}
    assert got == {pattern: types.split() for pattern, types in WORDS.items()}


SOURCES = {
    ("github/*",): "github/wakelog",
    ("github/#",): "github github/wakelog github/wakelog/actions",
    ("#/actions",): "github/wakelog/actions",
    ("*",): "github crm.eu",
    ("crm.eu",): "crm.eu",
    ("crm.*",): "",
    ("#",): "github github/wakelog github/wakelog/actions crm.eu -",
    ("github", "crm.eu"): "github crm.eu",
}


def test_sources_are_words_between_slashes(connection: Connection[Any]) -> None:
    for source in ("github", "github/wakelog", "github/wakelog/actions", "crm.eu", ""):
        append(connection, "push", source=source, payload={"source": source or "-"})
    sequence(connection)
    got: dict[tuple[str, ...], list[str]] = {}
    for number, patterns in enumerate(SOURCES):
        agent = f"agent{number}"
        register(connection, agent, "push", sources=list(patterns))
        rows = connection.execute(
            "select payload ->> 'source' from wakelog.claim(%s, %s, 100)",
            [agent, start_worker(connection, agent)],
        ).fetchall()
        got[patterns] = [source for (source,) in rows]
    assert got == {patterns: sources.split() for patterns, sources in SOURCES.items()}


WANTED: list[tuple[dict[str, Any], list[int]]] = [
    ({"metadata": {"tenant": "a"}}, [1, 2]),
    ({"metadata": {"tenant": "a", "tags": ["x"]}}, [2]),
    ({"metadata": {}}, [1, 2, 3, 4]),
    ({"payload_path": "$.size > 10"}, [2, 4]),
    ({"payload_path": '$.ref starts with "refs/heads/"'}, [1, 4]),
    ({"payload_path": "strict $.size > 10"}, [2, 4]),
    ({"payload_path": "$.files[*].size > 5"}, [3]),
    ({"payload_path": "$.size > 10", "metadata": {"tenant": "a"}}, [2]),
    ({"payload_path": "$.size > 10", "metadata": {"tenant": "a"}, "sources": ["y"]}, []),
]


@pytest.mark.parametrize("pattern", ["push", "#"])
def test_metadata_is_contained_and_the_payload_answers_a_jsonpath(
    connection: Connection[Any], pattern: str
) -> None:
    x: dict[str, Any] = {"source": "x"}
    append(connection, "push", **x, metadata={"tenant": "a"}, payload={"size": 3, "ref": "refs/heads/x"})
    append(connection, "push", **x, metadata={"tenant": "a", "tags": ["x", "y"]}, payload={"size": 30})
    y: dict[str, Any] = {"source": "y"}
    append(connection, "push", **y, metadata={"tenant": "b"}, payload={"files": [{"size": 1}, {"size": 9}]})
    append(connection, "push", **y, payload={"size": 11, "ref": "refs/heads/y"})
    sequence(connection)
    for number, (options, wanted) in enumerate(WANTED):
        agent = f"agent{number}"
        register(connection, agent, pattern, **options)
        got = [position for position, _, _ in claim(connection, agent, start_worker(connection, agent))]
        assert got == wanted, options


def test_random_events_go_where_a_plain_reading_of_the_rules_sends_them(connection: Connection[Any]) -> None:
    chance = random.Random(20261127)
    words = ["a", "b", "c"]
    types = [".".join(chance.choices(words, k=chance.randint(1, 4))) for _ in range(300)]
    sources = ["/".join(chance.choices(words, k=chance.randint(1, 3))) for _ in types]
    sizes = [chance.randint(0, 9) for _ in types]
    for type_, source, size in zip(types, sources, sizes, strict=True):
        append(connection, type_, source=source, payload={"size": size}, metadata={"size": size % 3})
    sequence(connection)
    for number in range(30):
        patterns = [
            ".".join(chance.choices([*words, "*", "#"], k=chance.randint(1, 4)))
            for _ in range(chance.randint(1, 2))
        ]
        source_pattern = "/".join(chance.choices([*words, "*", "#"], k=2)) if chance.random() < 0.5 else None
        least = chance.randint(0, 9)
        agent = f"agent{number}"
        register(
            connection, agent, *patterns, sources=[source_pattern] if source_pattern else None,
            payload_path=f"$.size >= {least}", metadata={"size": 1} if chance.random() < 0.3 else None,
        )  # fmt: skip
        metadata = one(connection, "select metadata from wakelog.agents where name = %s", agent)
        expected = [
            position
            for position, (type_, source, size) in enumerate(zip(types, sources, sizes, strict=True), 1)
            if any(matches(p.split("."), type_.split(".")) for p in patterns)
            and (source_pattern is None or matches(source_pattern.split("/"), source.split("/")))
            and size >= least
            and (metadata is None or size % 3 == 1)
        ]
        got = [position for position, _, _ in claim(connection, agent, start_worker(connection, agent))]
        assert got == expected, (patterns, source_pattern, least, metadata)


def matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def test_what_is_not_wanted_leaves_no_row_and_is_passed_by(connection: Connection[Any]) -> None:
    register(connection, "agent", "wanted", payload_path="$.yes == true")
    append(connection, "other", "wanted", "wanted", payload={"yes": False})
    append(connection, "wanted", payload={"yes": True})
    append(connection, "wanted", "other", payload={"yes": False})
    sequence(connection)
    worker = start_worker(connection, "agent")
    deliveries = claim(connection, "agent", worker)
    assert [position for position, _, _ in deliveries] == [4]
    assert connection.execute("select position from wakelog.deliveries").fetchall() == [(4,)]
    ack(connection, "agent", worker, deliveries)
    assert connection.execute("select position from wakelog.history").fetchall() == [(4,)]
    assert one(connection, "select position from wakelog.cursors") == 6


def test_a_changed_filter_holds_for_what_has_not_been_claimed(connection: Connection[Any]) -> None:
    register(connection, "agent", "a")
    append(connection, "a", "b")
    sequence(connection)
    worker = start_worker(connection, "agent")
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["a"]
    append(connection, "a", "b")
    sequence(connection)
    register(connection, "agent", "b")
    assert [type_ for _, _, type_ in claim(connection, "agent", worker)] == ["b"]


def test_an_agent_does_not_answer_itself_for_ever(connection: Connection[Any]) -> None:
    wanted = {
        "all": ("#", ["some.asked", "some.completed", "other.completed"]),
        "some": ("some.*", ["some.asked"]),
        "ends": ("*.completed", ["all.completed", "some.completed", "other.completed"]),
    }
    for agent, (pattern, _) in wanted.items():
        register(connection, agent, pattern)
    append(connection, "some.asked", "all.completed", "all.failed", "some.completed", "other.completed")
    sequence(connection)
    workers = {agent: start_worker(connection, agent) for agent in wanted}
    deliveries = {agent: claim(connection, agent, worker) for agent, worker in workers.items()}
    assert {agent: [type_ for _, _, type_ in got] for agent, got in deliveries.items()} == {
        agent: types for agent, (_, types) in wanted.items()
    }
    for position, attempt, _ in deliveries["all"]:
        connection.execute("select wakelog.ack('all', %s, %s, %s, '{}')", [position, workers["all"], attempt])
    sequence(connection)
    assert one(connection, "select count(*) from wakelog.log_events where type = 'all.completed'") == 4
    assert claim(connection, "all", workers["all"]) == []
    assert len(claim(connection, "ends", workers["ends"])) == 3


@pytest.mark.parametrize("wanted", [1, 20], ids=["one type", "twenty types"])
def test_wanting_few_types_of_many_does_not_read_the_others(connection: Connection[Any], wanted: int) -> None:
    connection.execute(
        "insert into wakelog.events (type) select 'type.' || n % 500 from generate_series(1, 50000) n"
    )
    sequence(connection)
    types = [f"type.{number}" for number in range(wanted)]
    register(connection, "agent", *types)
    worker = start_worker(connection, "agent")
    with connection.transaction():
        before = rows_read(connection)
        deliveries = claim(connection, "agent", worker, limit=100)
        read = rows_read(connection) - before
    assert len(deliveries) == 100
    # Each delivery is found, and its event fetched: a handful of rows for each, not five hundred.
    bound = 1500 if wanted == 1 else 15000
    assert 100 <= read < bound, f"{read} rows and index entries were read to claim 100"
    ack(connection, "agent", worker, deliveries)

    # And nothing at all once none of its types has moved.
    while claim(connection, "agent", worker):
        pass
    connection.execute("insert into wakelog.events (type) select 'type.499' from generate_series(1, 10000)")
    sequence(connection)
    with connection.transaction():
        before = rows_read(connection)
        assert claim(connection, "agent", worker) == []
        assert rows_read(connection) == before
    assert one(connection, "select position from wakelog.cursors") == 60000


def rows_read(connection: Connection[Any]) -> int:
    """Rows and index entries of the log and the events that this session has looked at, not yet in the statistics."""
    return one(
        connection,
        """select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))::int
           from pg_class c left join pg_index i on i.indexrelid = c.oid
           where coalesce(i.indrelid, c.oid) in ('wakelog.log'::regclass, 'wakelog.events'::regclass)""",
    )


def test_a_jsonpath_that_is_none_is_refused(connection: Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.SyntaxError, match="jsonpath"):
        connection.execute(
            "select wakelog.register_agent('agent', %s)", [Jsonb({"types": ["#"], "payload_path": "$.a >"})]
        )
