"""Roots and paths are those of the definition, in Python, SQL and the checker; a record is one event and no other."""

import runpy
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from wakelog.integrity import merkle, record
from wakelog.integrity.record import FIELDS
from wakelog.integrity.seal import seals

Connection = psycopg.Connection[Any]
UNTROUBLED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CHECKER = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "check_proof.py"))

leaf_lists = st.integers(1, 70).map(lambda n: [sha256(bytes([n, k])).digest() for k in range(n)])


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1: split at the largest power of two that is smaller than the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + root_by_definition(leaves[:k]) + root_by_definition(leaves[k:])).digest()


def path_by_definition(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m < k:
        return [*path_by_definition(m, leaves[:k]), root_by_definition(leaves[k:])]
    return [*path_by_definition(m - k, leaves[k:]), root_by_definition(leaves[:k])]


@given(leaf_lists, st.data())
def test_roots_and_paths_are_those_of_the_definition(leaves: list[bytes], data: st.DataObject) -> None:
    root = root_by_definition(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.path(leaves, index)
    assert merkle.root(leaves) == root
    assert path == path_by_definition(index, leaves)
    assert merkle.climb(leaves[index], index, len(leaves), path) == root
    assert CHECKER["climb"](leaves[index], index, len(leaves), path) == root


@given(leaf_lists, st.data())
def test_no_other_leaf_place_or_path_leads_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path, root = merkle.path(leaves, index), merkle.root(leaves)
    other = data.draw(st.integers(-1, len(leaves)).filter(lambda n: n != index))
    assert merkle.climb(leaves[index], other, len(leaves), path) != root
    assert merkle.climb(sha256(leaves[index]).digest(), index, len(leaves), path) != root
    assert merkle.climb(leaves[index], index, len(leaves), [*path, root]) != root
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        assert merkle.climb(leaves[index], index, len(leaves), path[:at] + path[at + 1 :]) != root
        turned = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
        assert merkle.climb(leaves[index], index, len(leaves), turned) != root


@pytest.mark.every_postgres
@settings(max_examples=40, suppress_health_check=UNTROUBLED)
@given(leaves=leaf_lists)
def test_sql_has_the_same_roots(log: Connection, leaves: list[bytes]) -> None:
    row = log.execute("select wakelog.merkle_root(%s)", [b"".join(leaves)]).fetchone()
    assert row == (merkle.root(leaves),)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
times = st.datetimes(
    min_value=__import__("datetime").datetime(1, 1, 4),
    max_value=__import__("datetime").datetime(9999, 12, 29),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.every_postgres
@settings(max_examples=60, suppress_health_check=UNTROUBLED)
@given(
    source=st.just("") | text,
    stream=st.none() | text,
    correlation=st.none() | text,
    causation=st.none() | st.uuids(),
    key=st.none() | text,
    payload=json_values,
    occurred=times,
    after=st.none() | times,
)
def test_a_record_is_the_same_in_sql_in_python_and_in_the_checker(
    log: Connection, source: str, stream: str | None, correlation: str | None, causation: Any, key: str | None,
    payload: Any, occurred: Any, after: Any,
) -> None:  # fmt: skip
    with log.transaction(force_rollback=True):
        row = log.execute(
            """insert into wakelog.events (type, source, stream, version, payload, correlation_id, causation_id,
                                           idempotency_key, occurred_at, deliver_after)
               values ('a.b', %s, %s, case when %s::text is not null then 1 end, %s, %s, %s, %s,
                       %s::timestamp at time zone 'UTC', %s::timestamp at time zone 'UTC')
               returning seq, payload::text""",
            [
                source,
                stream,
                stream,
                Jsonb(payload),
                correlation,
                causation,
                key,
                occurred,
                after,
            ],
        ).fetchone()
        assert row is not None
        seq, payload_text = row
        row = log.execute(
            """select wakelog.event_record(row(7, e.seq, 1, '2026-11-27 12:00+00')::wakelog.log, e)
               from wakelog.events e where e.seq = %s""",
            [seq],
            binary=True,
        ).fetchone()
    assert row is not None
    event = record.decode(row[0])
    assert (event["position"], event["sequenced_at"]) == (7, "2026-11-27T12:00:00.000000Z")
    assert (event["source"], event["stream"], event["payload"]) == (source, stream, payload_text)
    assert event["occurred_at"] == occurred.isoformat(timespec="microseconds") + "Z"
    assert record.encode(event) == row[0] == CHECKER["record"](CHECKER["FIELDS"], event)


def test_a_delay_from_before_all_time_can_be_written(log: Connection) -> None:
    for at in ("-infinity", "4000-01-01 BC"):
        row = log.execute(
            """with made as (insert into wakelog.events (type, deliver_after) values ('a', %s) returning *)
               select wakelog.event_record(row(7, e.seq, 1, '2026-11-27 12:00+00')::wakelog.log, e::wakelog.events)
               from made e""",
            [at],
            binary=True,
        ).fetchone()
        assert row is not None
        event = record.decode(row[0])
        assert record.encode(event) == row[0] == CHECKER["record"](CHECKER["FIELDS"], event)


event_fields = st.fixed_dictionaries(
    {
        name: st.none() | text if kind == "text" else st.none() | st.integers(-(2**31), 2**31 - 1)
        for name, kind in FIELDS
        if kind in ("text", "int4", "int8")
    }
).map(lambda some: {name: some.get(name) for name, _ in FIELDS})


@given(event_fields, event_fields)
def test_two_events_have_one_record_only_if_they_are_one(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    assert (record.encode(one) == record.encode(other)) == (one == other)


def test_text_does_not_move_from_field_to_field() -> None:
    empty = dict.fromkeys(name for name, _ in FIELDS)
    split = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    seen = {record.encode({**empty, "type": one, "source": other}) for one, other in split}
    assert len(seen) == 4


@pytest.mark.every_postgres
def test_no_setting_changes_a_hash(log: Connection) -> None:
    """Sealed twice, in sessions that are as unlike as can be, all that is hashed is the same."""
    made: list[Any] = []
    for session in (
        "",
        """set local timezone = 'Asia/Kathmandu'; set local datestyle = 'SQL, DMY';
           set local intervalstyle = 'iso_8601';
           set local extra_float_digits = -3; set local bytea_output = 'escape'; set local client_encoding = 'LATIN1';
           set local standard_conforming_strings = off; set local lc_numeric = 'C'; set local enable_indexscan = off;
           set local search_path = public""",
    ):
        with log.transaction(force_rollback=True):
            log.execute("delete from wakelog.seals")
            log.execute(session.encode())
            log.execute("select wakelog.seal(100)")
            log.execute("set local client_encoding = 'UTF8'; set local bytea_output = 'hex'")
            made += [(seal.root, seal.leaves) for seal in seals(log, leaves=True)]
    assert len(made) == 2
    assert made[0] == made[1]


def test_a_seals_hash_is_the_same_in_python_and_in_sql(log: Connection) -> None:
    for seal in seals(log, leaves=True):
        assert seal.own_hash() == seal.hash
        assert CHECKER["seal_hash"](seal.document()) == seal.hash
        row = log.execute(
            "select wakelog.seal_hash(s) from wakelog.seals s where number = %s", [seal.number]
        ).fetchone()
        assert row == (seal.hash,)


@pytest.mark.parametrize("broken", [b"", struct.pack("!i", 5), None])
def test_bytes_that_are_no_record_are_refused(broken: bytes | None) -> None:
    empty = record.encode(dict.fromkeys(name for name, _ in FIELDS))
    with pytest.raises((ValueError, struct.error)):
        record.decode(empty + b"\0" if broken is None else broken)
