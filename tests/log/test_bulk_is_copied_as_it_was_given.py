"""append_many: through COPY or one by one, what arrives is what was given, in the order given."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.log.sessions import Sessions, insert, sequence, value

from wakelog.errors import BadInput
from wakelog.log.append import append, append_many
from wakelog.log.event import NewEvent
from wakelog.log.read import read

text = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20
) | st.sampled_from(["\\N", "\\.", "\\", "\t", "\r\n", "\\t", "a\\\tb", '"', "\\u0000", "\\\\u0000"])
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
new_events = st.builds(
    NewEvent,
    type=st.sampled_from(["a", "order.placed", "größe.geändert"]),
    payload=json.filter(lambda payload: payload is not None),
    source=text,
    stream=st.none() | text.filter(bool),
    metadata=st.none() | st.dictionaries(text, json, max_size=3),
    correlation_id=st.none() | text.filter(bool),
    causation_id=st.none() | st.uuids(),
    schema_version=st.integers(-(2**31), 2**31 - 1),
    occurred_at=st.none() | st.datetimes(timezones=st.timezones()).filter(lambda time: time.year > 1),
    id=st.none() | st.uuids(),
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(events=st.lists(new_events, max_size=6))
def test_whatever_is_given_arrives(session: Sessions, events: list[NewEvent]) -> None:
    connection = session(autocommit=False)
    try:
        before = value(connection, "select coalesce(max(seq), 0) from wakelog.events")
        assert append_many(connection, events) == len(events)
        rows = connection.execute(
            "select type, payload, source, stream, metadata, correlation_id, causation_id, schema_version,"
            " occurred_at, id from wakelog.events where seq > %s order by seq",
            [before],
        ).fetchall()
        assert len(rows) == len(events)
        for row, event in zip(rows, events, strict=True):
            assert row[:4] == (event.type, event.payload, event.source, event.stream)
            assert row[4:8] == (
                event.metadata or {},
                event.correlation_id,
                event.causation_id,
                event.schema_version,
            )
            assert event.occurred_at in (None, row[8])
            assert event.id in (None, row[9])
    finally:
        connection.rollback()
        connection.close()


def test_many_of_all_kinds_keep_their_order(observer: psycopg.Connection[Any]) -> None:
    def generate() -> Any:
        for n in range(5_000):
            key = {"idempotency_key": str(n)} if n % 1000 < 10 else {}
            yield {"type": "a", "payload": n, **key}

    assert append_many(observer, generate()) == 5_000
    assert sequence(observer) == 5_000
    assert [event.payload for event in read(observer)] == list(range(5_000))


def test_streams_are_versioned_in_bulk_as_well(session: Sessions, observer: psycopg.Connection[Any]) -> None:
    insert(observer, stream="s0")
    append_many(observer, [{"type": "a", "stream": f"s{n % 5000}"} for n in range(10_000)])
    assert value(observer, "select max(version) from wakelog.events") == 3
    assert value(observer, "select count(*) from wakelog.events where version = 1") == 5_000
    # However many streams, the lock table does not fill.
    connection = session(autocommit=False)
    append_many(connection, [{"type": "a", "stream": f"t{n}"} for n in range(20_000)])
    held = "select count(*) from pg_locks where locktype = 'advisory' and pid = %s"
    assert value(observer, held, [connection.info.backend_pid]) <= 4096 + 1


def test_one_bad_event_refuses_all(observer: psycopg.Connection[Any]) -> None:
    with pytest.raises(BadInput, match="found 'no such type'"):
        append_many(observer, [{"type": "a"}, {"type": "no such type"}])
    id = append(observer, "kept").id
    with pytest.raises(psycopg.errors.UniqueViolation):
        append_many(observer, [NewEvent(type="a"), NewEvent(type="a", id=id)])
    assert value(observer, "select count(*) from wakelog.events") == 1


def test_none_is_none(observer: psycopg.Connection[Any]) -> None:
    assert append_many(observer, []) == 0
