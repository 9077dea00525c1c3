"""B3, one adversary at a time: every committed event gets exactly one position, and none waits for a stranger."""

import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import IsolationLevel
from tests.log.sessions import Sessions, insert, log_ids, sequence, until, value, waiting_for_a_lock

from wakelog.errors import SequencerRefused, translate

pytestmark = pytest.mark.every_postgres

Connection = psycopg.Connection[Any]


def test_a_slow_transaction_is_found_when_it_commits(session: Sessions, observer: Connection) -> None:
    slow = session(autocommit=False)
    early = insert(slow)
    others = [insert(observer) for _ in range(3)]
    assert sequence(observer) == 3
    assert log_ids(observer) == others
    slow.commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == [*others, early]


def test_a_lower_seq_that_commits_later_is_found(session: Sessions, observer: Connection) -> None:
    lower, higher = session(autocommit=False), session(autocommit=False)
    one, two = insert(lower), insert(higher)
    higher.commit()
    assert sequence(observer) == 1
    lower.commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == [two, one]


def test_a_slow_transaction_is_found_after_many_runs(session: Sessions, observer: Connection) -> None:
    slow = session(autocommit=False)
    early = insert(slow)
    others: list[Any] = []
    for _ in range(20):
        others.append(insert(observer))
        assert sequence(observer) == 1
    slow.commit()
    sequence(observer)
    assert log_ids(observer) == [*others, early]


def test_a_foreign_transaction_that_stays_open_delays_nobody(session: Sessions, observer: Connection) -> None:
    observer.execute("create table public.other (n int)")
    foreign = session(autocommit=False)
    foreign.execute("insert into public.other values (1)")
    ids: list[Any] = []
    for _ in range(3):
        ids.append(insert(observer))
        assert sequence(observer) == 1
        assert log_ids(observer) == ids
    # It appends at last, under the transaction id it has had all along.
    ids.append(insert(foreign))
    ids.append(insert(observer))
    foreign.commit()
    assert sequence(observer) == 2
    assert log_ids(observer) == ids


def test_a_transaction_that_got_its_id_in_another_database_does_not_matter(
    session: Sessions, observer: Connection
) -> None:
    with psycopg.connect(session.url.rsplit("/", 1)[0] + "/postgres") as elsewhere:
        elsewhere.execute("select pg_current_xact_id()")
        id = insert(observer)
        assert sequence(observer) == 1
        elsewhere.rollback()
    assert sequence(observer) == 0
    assert log_ids(observer) == [id]


def test_what_is_rolled_back_leaves_nothing_and_burns_no_position(
    session: Sessions, observer: Connection
) -> None:
    ids: list[Any] = []
    failing = session(autocommit=False)
    for _ in range(5):
        insert(failing)
        sequence(observer)
        failing.rollback()
        ids.append(insert(observer))
    sequence(observer)
    assert log_ids(observer) == ids


def test_savepoints_count_as_their_transaction(session: Sessions, observer: Connection) -> None:
    writer = session(autocommit=False)
    ids = [insert(writer)]
    with writer.transaction():
        ids.append(insert(writer))
    with writer.transaction(force_rollback=True):
        insert(writer)
        with writer.transaction():
            insert(writer)
    insert(observer)
    assert sequence(observer) == 1
    # A first write inside a subtransaction, after the others' snapshot.
    with writer.transaction():
        ids.append(insert(writer))
    writer.commit()
    assert sequence(observer) == 3
    assert log_ids(observer)[1:] == ids


def test_a_transaction_that_first_writes_in_a_savepoint_is_found(
    session: Sessions, observer: Connection
) -> None:
    writer = session(autocommit=False)
    writer.execute("select 1")
    with writer.transaction():
        id = insert(writer)
    assert sequence(observer) == 0
    writer.commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == [id]


def test_a_prepared_transaction_is_found_when_it_is_committed(
    session: Sessions, observer: Connection
) -> None:
    writer = session(autocommit=False)
    xid = writer.xid(1, "gtrid", "wakelog")
    writer.tpc_begin(xid)
    writer.execute("set local wakelog.wake = 'off'")
    prepared = insert(writer, stream="s")
    writer.tpc_prepare()
    others = [insert(observer) for _ in range(2)]
    assert sequence(observer) == 2
    others.append(insert(observer))
    assert sequence(observer) == 1
    writer.tpc_commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == [*others, prepared]


def test_a_prepared_transaction_that_is_rolled_back_leaves_nothing(
    session: Sessions, observer: Connection
) -> None:
    writer = session(autocommit=False)
    writer.tpc_begin(writer.xid(1, "gtrid", "wakelog-back"))
    writer.execute("set local wakelog.wake = 'off'")
    insert(writer)
    writer.tpc_prepare()
    sequence(observer)
    writer.tpc_rollback()
    id = insert(observer)
    sequence(observer)
    assert log_ids(observer) == [id]


def test_one_sequences_at_a_time_and_the_others_say_so(session: Sessions, observer: Connection) -> None:
    busy = session(autocommit=False)
    insert(observer)
    assert sequence(busy) == 1
    assert sequence(observer) is None
    id = insert(observer)
    busy.rollback()
    assert sequence(observer) == 2
    assert log_ids(observer)[1] == id


def test_sequencing_races_with_itself_and_with_appends(session: Sessions, observer: Connection) -> None:
    done = threading.Event()
    placed: list[int] = []

    def run(connection: Connection) -> None:
        while not done.is_set():
            placed.append(sequence(connection) or 0)

    threads = [threading.Thread(target=run, args=[session()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    writers = [session(autocommit=False) for _ in range(3)]
    ids: set[Any] = set()
    for n in range(150):
        writer = writers[n % 3]
        ids.add(insert(writer))
        ids.add(insert(writer))
        writer.commit()
    done.set()
    for thread in threads:
        thread.join()
    placed.append(sequence(observer) or 0)
    assert sum(placed) == len(ids)
    assert set(log_ids(observer)) == ids


def test_it_is_refused_in_a_transaction_that_has_written(session: Sessions, observer: Connection) -> None:
    writer = session(autocommit=False)
    insert(writer)
    with pytest.raises(psycopg.Error) as refused:
        sequence(writer)
    assert isinstance(translate(refused.value), SequencerRefused)
    writer.rollback()
    assert sequence(observer) == 0


def test_what_the_sequencing_transaction_writes_afterwards_is_found(
    session: Sessions, observer: Connection
) -> None:
    first = insert(observer)
    both = session(autocommit=False)
    assert sequence(both) == 1
    second = insert(both)
    third = insert(observer)
    both.commit()
    assert sequence(observer) == 2
    assert log_ids(observer) == [first, second, third]


def test_what_it_writes_after_finding_nothing_is_found(session: Sessions, observer: Connection) -> None:
    both = session(autocommit=False)
    assert sequence(both) == 0
    id = insert(both)
    both.commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == [id]


def test_a_run_that_is_rolled_back_is_as_if_it_had_not_been(session: Sessions, observer: Connection) -> None:
    ids = [insert(observer)]
    undone = session(autocommit=False)
    assert sequence(undone) == 1
    undone.rollback()
    ids.append(insert(observer))
    assert sequence(observer) == 2
    assert log_ids(observer) == ids


@pytest.mark.parametrize("seen_running", [False, True])
def test_a_commit_in_the_middle_of_a_run_is_left_for_the_next_one(
    session: Sessions, observer: Connection, seen_running: bool
) -> None:
    """Each statement of a run sees more than the one before; only the first one's snapshot counts."""
    runner, slow = session(), session(autocommit=False)
    late = insert(slow)
    if seen_running:
        insert(observer)
        sequence(observer)
    before = log_ids(observer)
    first = insert(observer, "new.type")
    # The run stops where it enters the new type, behind this lock, in the middle of its work.
    blocker = session(autocommit=False)
    blocker.execute("lock table wakelog.types in share mode")
    thread = threading.Thread(target=sequence, args=[runner])
    thread.start()
    waiting_for_a_lock(observer)
    slow.commit()
    between = insert(observer)
    blocker.rollback()
    thread.join()
    assert log_ids(observer) == [*before, first]
    assert sequence(observer) == 2
    assert log_ids(observer) == [*before, first, late, between]


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_an_old_snapshot_places_nothing_twice(
    session: Sessions, observer: Connection, level: IsolationLevel
) -> None:
    old = session(autocommit=False)
    old.isolation_level = level
    ids = [insert(observer)]
    old.execute("select count(*) from wakelog.events")
    ids.append(insert(observer))
    assert sequence(observer) == 2
    ids.append(insert(observer))
    with pytest.raises(psycopg.Error):
        sequence(old)
    old.rollback()
    assert sequence(observer) == 1
    assert log_ids(observer) == ids


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_a_fresh_snapshot_that_stands_still_skips_nothing(
    session: Sessions, observer: Connection, level: IsolationLevel
) -> None:
    still = session(autocommit=False)
    still.isolation_level = level
    ids = [insert(observer)]
    still.execute("select 1 from wakelog.events")
    ids.append(insert(observer))
    assert sequence(still) == 1
    still.commit()
    assert sequence(observer) == 1
    assert log_ids(observer) == ids


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_producers_may_have_any_isolation_level(
    session: Sessions, observer: Connection, level: IsolationLevel
) -> None:
    writer = session(autocommit=False)
    writer.isolation_level = level
    ids = [insert(writer)]
    other = insert(observer)
    assert sequence(observer) == 1
    ids.append(insert(writer))
    writer.commit()
    assert sequence(observer) == 2
    assert log_ids(observer) == [other, *ids]


def test_a_producer_that_dies_leaves_nothing_and_stops_nobody(
    session: Sessions, observer: Connection
) -> None:
    dying = session(autocommit=False)
    insert(dying)
    pid = dying.info.backend_pid
    id = insert(observer)
    sequence(observer)
    observer.execute("select pg_terminate_backend(%s)", [pid])
    until(
        lambda: not value(observer, "select count(*) from pg_stat_activity where pid = %s", [pid]),
        "it is gone",
    )
    assert sequence(observer) == 0
    assert log_ids(observer) == [id]


def test_events_of_one_run_keep_the_order_of_their_insertion(session: Sessions, observer: Connection) -> None:
    one, two = session(autocommit=False), session(autocommit=False)
    ids: list[UUID] = []
    # Types that are new, one new beside one known, and known ones.
    for types in (["a", "a", "a", "a"], ["a", "b", "a", "b"], ["b", "b", "a", "a"]):
        ids += [insert(session_, type) for session_, type in zip([one, two, one, two], types, strict=True)]
        two.commit()
        one.commit()
        assert sequence(observer) == 4
        assert log_ids(observer) == ids
        mistaken = """
            select count(*) from wakelog.log l
            join wakelog.types t on t.id = l.type_id join wakelog.events e using (seq)
            where t.type <> e.type"""
        assert value(observer, mistaken) == 0


@pytest.mark.parametrize("count", [9_999, 10_000, 10_001])
def test_events_of_a_large_run_keep_the_order_of_their_insertion(
    session: Sessions, observer: Connection, count: int
) -> None:
    """Up to so many are held while they are placed."""
    insert(observer)
    sequence(observer)
    early = session(autocommit=False)
    insert(early)
    observer.execute(
        "insert into wakelog.events (type) select 'thing.happened' from generate_series(3, %s)", [count]
    )
    insert(early)
    early.commit()
    assert sequence(observer) == count
    in_order = "select count(*) from wakelog.log_events a join wakelog.events b on b.seq = a.position and b.id = a.id"
    assert value(observer, in_order) == count + 1


def test_a_restored_xid_is_not_believed(observer: Connection) -> None:
    """pg_restore and careless producers bring xids of other days; the row gets its own."""
    insert(observer)
    sequence(observer)
    observer.execute("insert into wakelog.events (type, xid) values ('a', '3'), ('a', '9000000000000')")
    assert sequence(observer) == 2


def test_an_open_transaction_does_not_make_a_run_read_the_whole_log(
    session: Sessions, observer: Connection
) -> None:
    observer.execute("insert into wakelog.events (type) select 'bulk' from generate_series(1, 20000)")
    sequence(observer)
    observer.execute("analyze wakelog.events")
    insert(session(autocommit=False))
    # Twice, so that the stored snapshot knows of the open transaction.
    for _ in range(2):
        insert(observer)
        plan = value(observer, "explain (analyze, buffers, format json) select wakelog.sequence()")
    read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    assert 0 < read < 300
