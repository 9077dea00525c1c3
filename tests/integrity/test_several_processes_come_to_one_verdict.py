"""Over several processes, verification comes to the verdict of one: the first difference in the log, or none at all."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.integrity import tampering
from tests.worker.waiting import one, until

from wakelog.errors import WakelogError
from wakelog.hands import Hands
from wakelog.integrity import stretches
from wakelog.integrity.seal import Seal, seals
from wakelog.integrity.stretches import verify_over
from wakelog.integrity.verification import Finding, Verification

__all__ = ["processes"]

Connection = psycopg.Connection[Any]
VERIFYING = "wakelog.integrity.verifying"
BLOCKED = """
    select count(*)::int from pg_stat_activity
    where application_name = 'wakelog verify' and wait_event_type = 'Lock' and datname = current_database()
"""


@pytest.fixture
def log(connection: Connection) -> Connection:
    """60 events in twelve seals of five, and three that are not sealed, for somebody whom no trigger stops."""
    tampering.fill(connection, 63)
    for _ in range(12):
        assert one(connection, "select wakelog.seal(5)") == 5
    connection.execute("set session_replication_role = replica")
    return connection


def by_one(log: Connection, **options: Any) -> Verification:
    verification = Verification(log, **options)
    assert sum(verification.run()) == verification.events
    return verification


def by_several(log: Connection, database: str, several: int = 2, **options: Any) -> Verification:
    verification = Verification(log, **options)
    heard = sum(verify_over(verification, database, several, options.get("against", ())))
    assert heard >= verification.events
    return verification


def told(seen: Verification) -> tuple[Any, ...]:
    newest = seen.newest and seen.newest.document()
    return seen.finding, seen.events, seen.seals, seen.position, newest, seen.unsealed


def remove_seals(log: Connection, *numbers: int) -> None:
    log.execute("delete from wakelog.seals where number = any (%s)", [list(numbers)])


def twice(log: Connection) -> None:
    tampering.change_payload(log, 51)
    tampering.change_payload(log, 18)


def seal_and_event(log: Connection) -> None:
    tampering.change_payload(log, 52)
    log.execute("update wakelog.seals set sealed_at = sealed_at - interval '1 second' where number = 6")


def event_and_seal(log: Connection) -> None:
    tampering.change_payload(log, 12)
    remove_seals(log, 6)


DAMAGE: list[tuple[Callable[[Connection], object], tuple[str, int | None] | None]] = [
    (lambda log: None, None),
    (twice, ("changed", 18)),
    (seal_and_event, ("seal_changed", 26)),
    (event_and_seal, ("changed", 12)),
    (lambda log: remove_seals(log, 6), ("seal_removed", 26)),
    (lambda log: remove_seals(log, 1, 2, 3, 4, 5, 6, 7), ("seal_removed", 1)),
    (lambda log: tampering.swap(log, 5, 6), ("moved", 5)),
    (lambda log: tampering.delete_event(log, 62), ("removed", 62)),
]


@pytest.mark.parametrize(("damage", "finding"), DAMAGE)
def test_whatever_was_done(
    log: Connection,
    database: str,
    damage: Callable[[Connection], object],
    finding: tuple[str, int | None] | None,
) -> None:
    damage(log)
    alone = by_one(log)
    assert (alone.finding and (alone.finding.kind, alone.finding.position)) == finding
    assert told(by_several(log, database)) == told(alone)


def test_in_stretches_of_several_seals(
    log: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "FOR_EACH", 1)
    assert told(by_several(log, database)) == told(by_one(log))
    twice(log)
    assert told(by_several(log, database)) == told(by_one(log))


def test_a_part_of_the_log_and_seals_that_were_taken_home(log: Connection, database: str) -> None:
    taken_home: list[Seal] = seals(log)
    part: dict[str, Any] = {"first": 13, "last": 37}
    assert told(by_several(log, database, **part)) == told(by_one(log, **part))
    log.execute("delete from wakelog.seals where number > 4")
    while one(log, "select wakelog.seal(4)"):
        pass
    alone = by_one(log, against=taken_home)
    assert alone.finding is not None
    assert alone.finding.kind == "chain_rewritten"
    assert told(by_several(log, database, against=taken_home)) == told(alone)


def test_a_log_without_seals(connection: Connection, database: str) -> None:
    tampering.fill(connection, 3)
    assert told(by_several(connection, database)) == told(by_one(connection))


def helpers(of: int) -> list[int]:
    """The processes that verify for another one."""
    children = (Path(f"/proc/{of}/task") / str(of) / "children").read_text().split()
    return [int(pid) for pid in children if VERIFYING in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.skipif(
    not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists(),
    reason="which processes belong to another is asked of Linux",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "one of them killed"])
def test_what_was_not_verified_is_never_said_to_be(
    log: Connection, database: str, processes: Processes, tmp_path: Path, number: signal.Signals
) -> None:
    with psycopg.connect(database) as blocking:
        blocking.execute("lock table wakelog.events in access exclusive mode")
        command = processes.start("verify", "--processes", "2", folder=tmp_path, DATABASE_URL=database)
        until(lambda: one(log, BLOCKED) == 2)
        theirs = helpers(command.pid)
        assert len(theirs) == 2
        if number == signal.SIGINT:
            command.send_signal(number)
        else:
            os.kill(theirs[0], number)
        out, err = command.communicate(timeout=20)
    assert out == ""
    if number == signal.SIGINT:
        assert command.returncode == 130
        assert "interrupted, nothing was verified of 60; go on with: wakelog verify --from 1" in err
    else:
        assert command.returncode == 1
        assert "nothing can be said of the log: one of the processes ended with exit code -9" in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in theirs)


def test_what_a_process_could_not_do_is_an_error(log: Connection) -> None:
    verification = Verification(log)
    with pytest.raises(WakelogError, match="no connection"):
        list(verify_over(verification, "postgresql://nobody@127.0.0.1:1/nothing", 2))
    assert (verification.events, verification.finding) == (0, None)


class TheSecondIsFaster:
    """Hands of which the second has told everything of its stretch before the first has told anything."""

    def __init__(self, *_: object) -> None:
        self.hands: list[Any] = []

    def start(self) -> None:
        self.hands.append(Mock())

    def heard(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        first, second = self.hands
        yield first, {"ready": True}
        yield second, {"ready": True}
        yield second, {"events": 20, "upto": 50}
        yield second, {"done": True, "seals": 4, "upto": 50, "newest": None, "finding": a_finding_at(51)}
        yield first, {"events": 15, "upto": 15}
        yield first, {"events": 2, "upto": 17}
        yield first, {"done": True, "seals": 3, "upto": 17, "newest": None, "finding": a_finding_at(18)}

    def end(self, hand: object) -> None:
        pass

    def __enter__(self) -> "TheSecondIsFaster":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def a_finding_at(position: int) -> dict[str, Any]:
    return Finding("changed", "it was", position).document()


def test_whatever_is_told_first(log: Connection, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "Hands", TheSecondIsFaster)
    monkeypatch.setattr(stretches, "FOR_EACH", 1)
    seen = by_several(log, database)
    assert seen.finding is not None
    assert (seen.finding.position, seen.position, seen.events, seen.seals) == (18, 17, 17, 3)

    # Interrupted when only the second has come to its end, nothing is known of what comes first.
    seen = Verification(log)
    running = verify_over(seen, database, 2)
    assert [next(running), next(running)] == [20, 15]
    running.close()
    assert (seen.finding, seen.position, seen.events, seen.seals) == (None, 15, 15, 0)


def test_all_that_a_process_tells_at_once_is_heard(tmp_path: Path) -> None:
    (tmp_path / "telling_much.py").write_text(
        "import os, sys\n"
        "os.write(int(sys.argv[2]), b''.join(b'{\"n\": %d}\\n' % n for n in range(500)) + b'{\"half\"')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    heard: list[dict[str, Any]] = []
    with Hands("telling_much", None, {"PYTHONPATH": path}) as hands:
        hands.start()
        for hand, told in hands.heard():
            heard.append(told)
            if not told:
                hands.end(hand)
    assert heard == [*({"n": n} for n in range(500)), {}]
