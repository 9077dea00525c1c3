"""What `wakelog bench` says to tune follows from what it found, and a good server is left in peace."""

from dataclasses import replace
from typing import Any

import pytest

from wakelog.measuring.advice import advise
from wakelog.measuring.clients import Throughput
from wakelog.measuring.server import Commits, Settings, Spread
from wakelog.measuring.survey import Survey

GB = 2**30


def spread(milliseconds: float) -> Spread:
    return Spread(milliseconds / 1000, milliseconds / 500)


GOOD = Survey(
    settings=Settings(
        version="17.2", fsync=True, synchronous_commit="on", has_standbys=False, shared_buffers=4 * GB,
        max_wal_size=16 * GB, connections=297, connected=20, autovacuum=True, autovacuum_naptime=60.0,
        vacuum_delay=2.0, vacuum_limit=200,
    ),
    listening=True, round_trip=spread(0.2),
    commits=Commits(as_set=spread(1.0), on_disk=spread(1.0), unwaited=spread(0.3)),
    appends_of_one=Throughput(900, 0.1), appends_of_many=Throughput(9000, 0.3), clients=16, wal_a_second=10e6,
    insert_to_handler=spread(3), no_ops=20_000, batched=60_000, effects=2_000,
)  # fmt: skip


def about(found: Survey) -> list[str]:
    return [advice.about for advice in advise(found)]


def test_a_good_server_is_left_in_peace() -> None:
    assert advise(GOOD) == []


def test_the_way_is_named_where_it_takes_longer_than_the_disk() -> None:
    far = Commits(as_set=spread(9.0), on_disk=spread(9.0), unwaited=spread(8.2))
    assert about(replace(GOOD, round_trip=spread(8), commits=far)) == ["round trip"]


def test_the_disk_is_named_where_it_is_slow_and_not_the_way() -> None:
    slow = Commits(as_set=spread(12.0), on_disk=spread(12.0), unwaited=spread(2.0))
    found = replace(GOOD, round_trip=spread(1.5), commits=slow)
    assert about(found) == ["disk"]
    assert "10 ms" in advise(found)[0].found


def test_standbys_are_named_where_commits_wait_for_them() -> None:
    waiting = Commits(as_set=spread(6.0), on_disk=spread(1.0), unwaited=spread(0.3))
    assert about(replace(GOOD, commits=waiting)) == []
    with_standbys = replace(GOOD.settings, has_standbys=True)
    assert about(replace(GOOD, commits=waiting, settings=with_standbys)) == ["standbys"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fsync": False}, "fsync"),
        ({"synchronous_commit": "off"}, "synchronous_commit"),
        ({"shared_buffers": 128 * 2**20}, "shared_buffers"),
        ({"max_wal_size": GB}, "max_wal_size"),
        ({"autovacuum": False}, "autovacuum"),
        ({"vacuum_delay": 20.0}, "autovacuum"),
        ({"vacuum_limit": 100}, "autovacuum"),
        ({"autovacuum_naptime": 600.0}, "autovacuum"),
        ({"connections": 47}, "max_connections"),
    ],
    ids=str,
)
def test_a_setting_that_slows_down_is_named(settings: dict[str, Any], named: str) -> None:
    assert about(replace(GOOD, settings=replace(GOOD.settings, **settings))) == [named]


def test_a_pooler_in_between_and_a_slow_client_are_named() -> None:
    found = replace(GOOD, listening=False, appends_of_many=Throughput(5000, 0.95))
    assert about(found) == ["waking", "this machine"]
