"""Transaction ids begin anew in another cluster: sequencing stops, rather than guess, until it is rebased."""

import subprocess
import threading
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions, insert, log_ids, sequence, value, waiting_for_a_lock

from wakelog.errors import SequencerRefused, translate
from wakelog.postgres.binaries import Binaries
from wakelog.testing import ThrowawayPostgres

Connection = psycopg.Connection[Any]


def refused(connection: Connection, why: str) -> None:
    with pytest.raises(psycopg.Error, match=why) as error:
        sequence(connection)
    translated = translate(error.value)
    assert isinstance(translated, SequencerRefused)
    assert "wakelog db rebase" in str(translated)


def rebase(connection: Connection) -> int:
    return value(connection, "select wakelog.rebase()")


def test_another_cluster_is_noticed_and_exactly_the_missing_are_added(observer: Connection) -> None:
    ids = [insert(observer, type) for type in ("a", "b")]
    sequence(observer)
    ids += [insert(observer, type) for type in ("b", "c")]
    observer.execute("update wakelog.sequencer set system_identifier = 1")
    refused(observer, "another cluster")
    assert rebase(observer) == 2
    assert rebase(observer) == 0
    assert sequence(observer) == 0
    ids.append(insert(observer, "d"))
    assert sequence(observer) == 1
    assert log_ids(observer) == ids
    assert observer.execute(
        "select t.type, max(l.position) from wakelog.types t join wakelog.log l on l.type_id = t.id"
        " group by t.id order by t.id"
    ).fetchall() == [
        ("a", 1), ("b", 3), ("c", 4), ("d", 5),
    ]  # fmt: skip


def test_transaction_ids_that_run_backwards_are_noticed(observer: Connection) -> None:
    ids = [insert(observer)]
    sequence(observer)
    ids.append(insert(observer))
    observer.execute("update wakelog.sequencer set snapshot = '900000000:900000000:'")
    refused(observer, "run backwards")
    assert rebase(observer) == 1
    assert log_ids(observer) == ids


def test_appends_wait_for_a_rebase_and_a_rebase_for_appends(session: Sessions, observer: Connection) -> None:
    slow, rebasing = session(autocommit=False), session()
    id = insert(slow)
    observer.execute("update wakelog.sequencer set system_identifier = 1")
    added: list[int] = []
    thread = threading.Thread(target=lambda: added.append(rebase(rebasing)))
    thread.start()
    waiting_for_a_lock(observer)
    slow.commit()
    thread.join()
    assert added == [1]
    assert log_ids(observer) == [id]


def test_rebasing_is_refused_in_a_transaction_that_has_written(session: Sessions) -> None:
    writer = session(autocommit=False)
    insert(writer)
    with pytest.raises(psycopg.Error, match="already written"):
        rebase(writer)


def test_a_dump_restored_into_another_cluster_goes_on(
    server: ThrowawayPostgres, binaries: Binaries, session: Sessions, observer: Connection
) -> None:
    # Transaction ids here are to be far above those of the new cluster.
    for _ in range(3):
        insert(observer, "old", stream="s")
    sequence(observer)
    unsequenced = insert(observer, "old", stream="s")
    before = log_ids(observer)
    dump = subprocess.run(
        [binaries.program("pg_dump"), session.url], check=True, capture_output=True, text=True
    ).stdout
    with ThrowawayPostgres(binaries) as other:
        subprocess.run(
            [binaries.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", other.url()],
            input="create role wakelog_writer; create role wakelog_reader; create role wakelog_worker;"
            f"create role wakelog_keys;{dump}",
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        with psycopg.connect(other.url(), autocommit=True) as restored:
            refused(restored, "another cluster")
            new = insert(restored, "new", stream="s")
            assert rebase(restored) == 2
            assert log_ids(restored) == [*before, unsequenced, new]
            after = insert(restored, "new", stream="s")
            assert sequence(restored) == 1
            assert log_ids(restored)[-1] == after
            assert value(restored, "select max(version) from wakelog.events") == 6
