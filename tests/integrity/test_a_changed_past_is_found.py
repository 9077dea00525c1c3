"""Whatever a superuser does to what is sealed, verification names the first event, or seal, that is not as it was."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.integrity import tampering
from tests.integrity.tampering import fill

from wakelog.errors import BadInput
from wakelog.integrity.seal import Seal, exported, seals
from wakelog.integrity.verification import Verification, verify

Connection = psycopg.Connection[Any]
pytestmark = pytest.mark.every_postgres


def found(connection: Connection, **options: Any) -> tuple[str, int | None, int | None]:
    finding = verify(connection, **options).finding
    assert finding is not None, "nothing was found"
    return finding.kind, finding.position, finding.seal


def test_an_untouched_log_is_whole(log: Connection) -> None:
    seen = verify(log)
    assert (seen.finding, seen.events, seen.seals, seen.position, seen.unsealed) == (None, 40, 4, 40, 3)


def test_a_log_without_seals_says_so(connection: Connection) -> None:
    fill(connection, 2)
    seen = verify(connection)
    assert (seen.finding, seen.events, seen.unsealed) == (None, 0, 2)


COLUMNS = {
    "id": "wakelog.uuid7()", "type": "'order.other'", "source": "'elsewhere'", "stream": "'other'", "version": "1000",
    "payload": """'{"n": 25}'""", "metadata": """'{"by": "hand"}'""", "correlation_id": "null",
    "causation_id": "null", "idempotency_key": "'other'", "schema_version": "3",
    "occurred_at": "occurred_at + interval '1 microsecond'", "recorded_at": "recorded_at - interval '1 microsecond'",
    "deliver_after": "null",
}  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_column(log: Connection, column: str) -> None:
    log.execute(
        sql.SQL(
            "update wakelog.events set {} = {} where seq = (select seq from wakelog.log where position = 24)"
        ).format(
            sql.Identifier(column), sql.SQL(COLUMNS[column])  # pyright: ignore[reportArgumentType]
        )
    )  # fmt: skip
    assert found(log) == ("changed", 24, 3)


def test_every_column_of_an_event_is_tried(connection: Connection) -> None:
    columns = connection.execute(
        "select attname from pg_attribute where attrelid = 'wakelog.events'::regclass and attnum > 0"
    ).fetchall()
    # seq is what ties an event to its place, and xid belongs to the cluster.
    assert {name for (name,) in columns} == {*COLUMNS, "seq", "xid"}


def test_a_changed_time_in_the_log(log: Connection) -> None:
    log.execute("update wakelog.log set sequenced_at = sequenced_at - interval '1 day' where position = 9")
    assert found(log) == ("changed", 9, 1)


def test_another_type_in_the_log_than_in_the_event(log: Connection) -> None:
    log.execute(
        """update wakelog.log set type_id = (select id from wakelog.types where type = 'order.placed')
           where position = 10"""
    )
    assert found(log) == ("type_changed", 10, 1)


@pytest.mark.parametrize("position", [1, 10, 11, 25, 40])
@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (tampering.change_payload, "changed"),
        (tampering.delete_event, "removed"),
        (tampering.insert_at, "inserted"),
    ],
)
def test_the_event_is_named(
    log: Connection,
    tamper: Callable[[Connection, int], None],
    kind: str,
    position: int,
) -> None:
    tamper(log, position)
    assert found(log) == (kind, position, (position + 9) // 10)


@pytest.mark.parametrize("position", [1, 10, 25, 39])
def test_a_removal_that_leaves_no_gap(log: Connection, position: int) -> None:
    tampering.delete_and_close_up(log, position)
    assert found(log) == ("removed", position, (position + 9) // 10)


@pytest.mark.parametrize(("one", "other"), [(12, 13), (15, 18), (20, 21), (5, 14)])
def test_two_events_in_each_others_place(log: Connection, one: int, other: int) -> None:
    tampering.swap(log, one, other)
    assert found(log) == ("moved", one, (one + 9) // 10)
    finding = verify(log).finding
    assert finding is not None
    assert f"at position {other} now" in finding.message


def test_the_first_of_several_is_named(log: Connection) -> None:
    for position in (33, 17, 38):
        tampering.change_payload(log, position)
    seen = verify(log)
    assert seen.finding is not None
    assert (seen.finding.position, seen.position, seen.events) == (17, 16, 16)


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ("root = sha256('')", 11),
        ("previous = sha256('')", 11),
        ("hash = sha256('')", 11),
        ("sealed_at = sealed_at + interval '1 microsecond'", 11),
        ("from_position = 10, count = 11, leaves = leaves || sha256('')", 11),
        ("to_position = 19, count = 9, leaves = substring(leaves for 288)", 11),
    ],
)
def test_a_changed_seal(log: Connection, change: str, position: int) -> None:
    log.execute(f"update wakelog.seals set {change} where number = 2".encode())
    kind, _, seal = found(log)
    assert (kind, seal) == ("seal_changed", 2)


def test_a_changed_list_of_leaves(log: Connection) -> None:
    log.execute(
        "update wakelog.seals set leaves = set_byte(leaves, 39, 255 - get_byte(leaves, 39)) where number = 2"
    )
    assert found(log) == ("seal_changed", 11, 2)


def test_a_change_hidden_in_the_list_of_leaves(log: Connection) -> None:
    """Then it cannot be said which event it was, only in which seal."""
    tampering.change_payload(log, 15)
    log.execute(
        """update wakelog.seals set leaves = overlay(leaves placing (
               select sha256('\\x00'::bytea || wakelog.event_record(l, e))
               from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position = 15) from 32 * 4 + 1)
           where number = 2"""
    )
    finding = verify(log).finding
    assert finding is not None
    assert (finding.kind, finding.position, finding.upto, finding.seal) == ("changed", 11, 20, 2)


@pytest.mark.parametrize("numbers", [[1], [2], [2, 3]])
def test_a_seal_that_is_gone(log: Connection, numbers: list[int]) -> None:
    log.execute("delete from wakelog.seals where number = any (%s)", [numbers])
    assert found(log) == ("seal_removed", 10 * numbers[0] - 9, numbers[0])


def test_a_seal_made_anew_in_the_middle(log: Connection) -> None:
    tampering.change_payload(log, 15)
    log.execute(
        """with leaves as (
               select string_agg(sha256('\\x00'::bytea || wakelog.event_record(l, e)), '' order by l.position) as l
               from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position between 11 and 20)
           update wakelog.seals set leaves = l, root = wakelog.merkle_root(l) from leaves where number = 2"""
    )
    log.execute("update wakelog.seals s set hash = wakelog.seal_hash(s) where number = 2")
    assert found(log) == ("chain_rewritten", 11, 2)


def taken_home(connection: Connection, *, every: bool = False) -> list[Seal]:
    return seals(connection) if every else seals(connection)[-1:]


def test_seals_cut_off_at_the_end_are_found_by_an_exported_one(log: Connection) -> None:
    known = taken_home(log)
    log.execute("delete from wakelog.seals where number > 2")
    assert verify(log).finding is None
    assert found(log, against=known) == ("seals_cut_off", 21, 4)


@pytest.mark.parametrize("every", [False, True])
def test_a_chain_made_anew_is_found_by_exported_seals(log: Connection, every: bool) -> None:
    known = taken_home(log, every=every)
    assert verify(log, against=known).finding is None
    tampering.change_payload(log, 15)
    tampering.seal_all_anew(log)
    assert verify(log).finding is None
    kind, _, seal = found(log, against=known)
    # sealed_at is in every hash, so the first one is another already.
    assert (kind, seal) == ("chain_rewritten", 1 if every else 4)


def test_an_export_stays_good_while_the_log_grows(connection: Connection) -> None:
    fill(connection, 10)
    connection.execute("select wakelog.seal()")
    known = taken_home(connection)
    connection.execute("insert into wakelog.events (type) select 'more' from generate_series(1, 100)")
    connection.execute("select wakelog.sequence()")
    connection.execute("select wakelog.seal()")
    seen = verify(connection, against=known)
    assert (seen.finding, seen.events, seen.seals, seen.unsealed) == (None, 110, 2, 0)


@pytest.mark.parametrize(("first", "last"), [(16, 24), (1, 10), (11, 40), (40, 40)])
def test_a_part_is_verified_alone(log: Connection, first: int, last: int) -> None:
    for position in {1, 5, 10, 25, 39} - set(range(first, last + 1)):
        tampering.change_payload(log, position)
    seen = verify(log, first=first, last=last)
    assert (seen.finding, seen.events, seen.position) == (None, last - first + 1, last)
    tampering.change_payload(log, last)
    assert found(log, first=first, last=last)[:2] == ("changed", last)


def test_something_removed_before_it_was_sealed(log: Connection) -> None:
    tampering.delete_event(log, 42)
    assert found(log) == ("removed", 42, None)
    with pytest.raises(psycopg.Error, match="expected 3 events at positions 41 to 43, found 2"):
        log.execute("select wakelog.seal()")


def test_an_event_beside_the_log(connection: Connection) -> None:
    """Readers of its stream would see it, and nobody who follows the log."""
    fill(connection, 1)
    connection.execute("insert into wakelog.events (type) values ('not.yet.sequenced')")
    assert verify(connection).finding is None
    connection.execute("set session_replication_role = replica")
    connection.execute(
        "insert into wakelog.events (type, stream, version, xid) values ('a', 'order-1', 99, '3')"
    )
    assert found(connection) == ("inserted", None, None)


def test_a_place_before_the_first(log: Connection) -> None:
    log.execute("insert into wakelog.log (position, seq, type_id, sequenced_at) values (0, 999999, 1, now())")
    assert found(log) == ("inserted", 0, None)


def test_no_function_of_the_database_is_believed(log: Connection) -> None:
    tampering.change_payload(log, 15)
    for function in (
        "wakelog.event_record(p_place wakelog.log, p_event wakelog.events) returns bytea",
        "wakelog.seal_hash(p_seal wakelog.seals) returns bytea",
        "wakelog.merkle_root(p_leaves bytea) returns bytea",
    ):
        log.execute(f"create or replace function {function} language sql return '\\x00'::bytea".encode())
    assert found(log) == ("changed", 15, 2)


def test_it_says_how_far_it_came(log: Connection) -> None:
    verification = Verification(log)
    steps = verification.run()
    assert (next(steps), verification.position) == (10, 10)
    assert (next(steps), verification.position) == (10, 20)
    steps.close()
    assert verify(log, first=verification.position + 1).events == 20


def test_a_seal_that_was_changed_on_its_way_home_is_refused(log: Connection) -> None:
    document = {**taken_home(log)[0].document(), "to": 41}
    text = json.dumps({"wakelog": "seals", "form": 1, "seals": [document]})
    with pytest.raises(BadInput, match="seal 4 of the file is not as it was exported"):
        exported(text)
