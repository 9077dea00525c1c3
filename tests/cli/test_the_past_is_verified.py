"""wakelog verify, seal and proof: what they say, to people and programs, and what they exit with."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog

from wakelog.integrity.verification import Verification

Connection = psycopg.Connection[Any]


@pytest.fixture
def sealed(log_of_three: Connection, wakelog: Wakelog) -> Connection:
    assert wakelog("seal", "now").out.startswith("3 events sealed in 1 seal")
    return log_of_three


def change(connection: Connection, position: int) -> None:
    connection.execute("set session_replication_role = replica")
    connection.execute(
        """update wakelog.events set payload = '{"branch": "evil"}'
           where seq = (select seq from wakelog.log where position = %s)""",
        [position],
    )


def test_a_whole_log(wakelog: Wakelog, sealed: Connection) -> None:
    wakelog("append", "push")
    ended = wakelog("verify")
    assert ended.code == 0
    assert "3 events in 1 seal as sealed, up to position 3" in ended.out
    assert "1 event not sealed yet; seal now: wakelog seal now" in ended.out
    ended = wakelog("verify", "--json")
    assert ended.code == 0
    assert {name: ended.json[name] for name in ("ok", "events", "seals", "to", "unsealed", "finding")} == {
        "ok": True, "events": 3, "seals": 1, "to": 3, "unsealed": 1, "finding": None,
    }  # fmt: skip


def test_a_changed_event(wakelog: Wakelog, sealed: Connection) -> None:
    change(sealed, 2)
    ended = wakelog("verify")
    assert ended.code == 1
    assert "NOT AS SEALED: position 2, push, id " in ended.out
    assert "What comes before it is as sealed: 1 event." in ended.out
    ended = wakelog("verify", "--json")
    assert (ended.code, ended.json["ok"], ended.json["to"]) == (1, False, 1)
    assert (ended.json["finding"]["kind"], ended.json["finding"]["position"]) == ("changed", 2)
    assert wakelog("verify", "--to", "1").code == 0
    assert wakelog("verify", "--from", "3").code == 0


def test_over_several_processes(wakelog: Wakelog, sealed: Connection) -> None:
    ended = wakelog("verify", "--processes", "2")
    assert ended.code == 0
    assert "3 events in 1 seal as sealed, up to position 3" in ended.out
    change(sealed, 2)
    ended = wakelog("verify", "--processes", "2", "--json")
    assert (ended.code, ended.json["ok"], ended.json["to"]) == (1, False, 1)
    assert (ended.json["finding"]["kind"], ended.json["finding"]["position"]) == ("changed", 2)


def test_an_empty_log(wakelog: Wakelog) -> None:
    assert "0 events in 0 seals" in wakelog("verify").out
    assert wakelog("seal", "export").code == 1
    assert "wakelog seal now" in wakelog("seal", "export").err
    assert "There are no seals yet" in wakelog("seal", "list").out


def test_against_a_seal_that_was_exported(wakelog: Wakelog, sealed: Connection, tmp_path: Path) -> None:
    (tmp_path / "seal.json").write_text(wakelog("seal", "export").out)
    assert "The chain leads to the seals in seal.json" in wakelog("verify", "--against", "seal.json").out
    change(sealed, 2)
    sealed.execute("delete from wakelog.seals")
    assert wakelog("seal", "now").code == 0
    assert wakelog("verify").code == 0
    ended = wakelog("verify", "--against", "seal.json", "--json")
    assert (ended.code, ended.json["finding"]["kind"]) == (1, "chain_rewritten")
    sealed.execute("delete from wakelog.seals")
    ended = wakelog("verify", "--against", "seal.json", "--json")
    assert (ended.code, ended.json["finding"]["kind"]) == (1, "seals_cut_off")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"wakelog": "seals", "form": 1, "seals": []}', '{"wakelog": "proof"}']
)
def test_a_file_that_is_no_export(wakelog: Wakelog, sealed: Connection, tmp_path: Path, text: str) -> None:
    (tmp_path / "seal.json").write_text(text)
    ended = wakelog("verify", "--against", "seal.json")
    assert (ended.code, ended.out) == (2, "")
    assert "wakelog seal" in ended.err


def test_seals_are_listed_and_exported(wakelog: Wakelog, sealed: Connection) -> None:
    wakelog("append", "push")
    wakelog("seal", "now")
    listed = wakelog("seal", "list", "--json").json
    assert [(s["number"], s["from"], s["to"], s["count"]) for s in listed["seals"]] == [
        (2, 4, 4, 1),
        (1, 1, 3, 3),
    ]
    assert (listed["unsealed"], listed["enabled"], listed["every"]) == (0, True, 10.0)
    assert [s["number"] for s in wakelog("seal", "export", "--json").json["seals"]] == [2]
    exported = json.loads(wakelog("seal", "export", "--all").out)
    assert [s["number"] for s in exported["seals"]] == [1, 2]
    assert exported["seals"][0]["hash"] == exported["seals"][1]["previous"] == listed["seals"][1]["hash"]
    assert "0 events not sealed yet. Sealing: every 10.0 s" in wakelog("seal", "list").out


def test_sealing_is_turned_off_and_on(wakelog: Wakelog, sealed: Connection) -> None:
    assert "seals no more" in wakelog("seal", "off").out
    assert "only by hand" in wakelog("seal", "list").out
    assert wakelog("seal", "on", "--every", "1m", "--json").json == {
        "enabled": True,
        "every": 60.0,
        "unsealed": 0,
    }
    assert wakelog("seal", "on", "--every", "0s").code == 2


def test_a_proof_is_printed_and_checked(wakelog: Wakelog, sealed: Connection, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(wakelog("proof", "2").out)
    (tmp_path / "seals.json").write_text(wakelog("seal", "export", "--all").out)
    (tmp_path / "check.py").write_text(wakelog("proof", "--checker").out)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "check.py", "proof.json", "--seals", "seals.json"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    event = wakelog("proof", "2", "--json").json["event"]
    assert wakelog("proof", event["id"], "--json").json["event"] == event


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["push"], 2), (["99"], 4), (["00000000-0000-0000-0000-000000000000"], 4), (["4"], 1)],
)
def test_no_proof(wakelog: Wakelog, sealed: Connection, arguments: list[str], code: int) -> None:
    wakelog("append", "push")
    ended = wakelog("proof", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert "wakelog " in ended.err


def test_after_ctrl_c_it_says_how_far_it_came(
    wakelog: Wakelog, sealed: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakelog("append", "push")
    wakelog("seal", "now")
    run = Verification.run

    def interrupted(self: Verification) -> Any:
        yield next(iter(run(self)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Verification, "run", interrupted)
    ended = wakelog("verify")
    assert (ended.code, ended.out) == (130, "")
    assert "all as sealed up to position 3 of 4; go on with: wakelog verify --from 4" in ended.err


def test_a_real_ctrl_c_in_the_middle(
    connection: Connection,
    database: str,
    tmp_path: Path,
    eventually: Callable[[Callable[[], bool], str], None],
) -> None:
    """While the database is slow to answer: the process ends at once, and leaves no query behind."""
    connection.execute("insert into wakelog.events (type) select 'a' from generate_series(1, 10)")
    connection.execute("select wakelog.sequence()")
    connection.execute("select wakelog.seal(5)")
    connection.execute("select wakelog.seal(5)")
    with psycopg.connect(database) as blocking:
        blocking.execute("lock table wakelog.types")
        process = subprocess.Popen(
            [Path(sys.executable).with_name("wakelog"), "verify", "--database", database],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        try:
            waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            while (row := connection.execute(waiting).fetchone()) is None:
                assert process.poll() is None
            process.send_signal(2)
            _, said = process.communicate(timeout=20)
        finally:
            watchdog.cancel()
    assert process.returncode == 130
    assert "nothing was verified of 10; go on with: wakelog verify --from 1" in said
    gone = "select count(*) = 0 from pg_stat_activity where pid = %s"
    eventually(lambda: connection.execute(gone, row).fetchone() == (True,), "the end of the query")
