"""wakelog doctor: 0 when all is well or merely to be watched, 1 when something is broken, and what to do."""

from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog
from tests.worker.waiting import one, until

from wakelog.testing import ThrowawayPostgres
from wakelog_cli import checks

Connection = psycopg.Connection[Any]


@pytest.fixture
def on_safe_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of the tests is careless about crashes, and the doctor would rightly say so."""
    monkeypatch.setattr(checks, "_SETTINGS", ())
    monkeypatch.setattr(checks, "_PATIENCE", 0.1)


def states(wakelog: Wakelog, code: int) -> dict[str, str]:
    ended = wakelog("doctor", "--json")
    assert ended.code == code
    return {check["check"]: check["state"] for check in ended.json["checks"]}


@pytest.mark.usefixtures("on_safe_disks")
class TestOnSafeDisks:
    def test_a_quiet_database_is_well(self, wakelog: Wakelog) -> None:
        found = states(wakelog, 0)
        assert {name for name, state in found.items() if state != "ok"} == {"doorkeeper"}
        assert set(found) >= {
            "reachable",
            "server",
            "schema",
            "listen",
            "sequencer",
            "workers",
            "agents",
            "connections",
        }

    def test_types_that_no_agent_wants(self, wakelog: Wakelog, dead_letter: Connection) -> None:
        dead_letter.execute("insert into wakelog.events (type) values ('psuh')")
        dead_letter.execute("select wakelog.sequence()")
        checks = {check["check"]: check for check in wakelog("doctor", "--json").json["checks"]}
        assert checks["types"]["state"] == "warn"
        assert "psuh" in checks["types"]["found"]

    def test_a_log_that_is_not_sealed(self, wakelog: Wakelog, log_of_three: Connection) -> None:
        assert states(wakelog, 0)["seals"] == "ok"
        name = log_of_three.info.dbname
        log_of_three.execute(f"alter database {name} set wakelog.clock_offset = '5 minutes'".encode())
        ended = wakelog("doctor", "--json")
        (found,) = [check for check in ended.json["checks"] if check["check"] == "seals"]
        assert (found["state"], found["found"][:29]) == ("warn", "3 events not sealed for 5 min")
        wakelog("seal", "now")
        assert states(wakelog, 0)["seals"] == "ok"

    def test_who_keeps_the_sequencer_from_its_work(self, wakelog: Wakelog, database: str) -> None:
        with psycopg.connect(database) as registering:
            registering.execute("select wakelog.register_agent('tests', '{\"types\": [\"push\"]}')")
            wakelog("append", "push")
            pid = registering.info.backend_pid
            checks = {check["check"]: check for check in wakelog("doctor", "--json").json["checks"]}
            assert checks["sequencer"]["state"] == "fail"
            assert f"backend {pid} has held" in checks["sequencer"]["found"]
            assert str(pid) in checks["sequencer"]["do"]

    def test_people_get_a_table(self, wakelog: Wakelog) -> None:
        words = wakelog("doctor").out
        assert words.rstrip().endswith("0 failed, 1 warning")
        assert "wakelog worker module:app" in words

    def test_dead_letters_and_agents_that_nobody_serves(
        self, wakelog: Wakelog, dead_letter: Connection
    ) -> None:
        ended = wakelog("doctor", "--json")
        assert [(c["found"], c["do"]) for c in ended.json["checks"] if c["check"] == "agent tests"] == [
            ("1 dead letter", "wakelog dead list --agent tests"),
            (
                "1 event waiting, and no worker serves it",
                "wakelog worker module:app, or if it is gone for good: wakelog agents remove tests",
            ),
        ]

    def test_events_that_get_no_position(self, wakelog: Wakelog, connection: Connection) -> None:
        connection.execute("insert into wakelog.events (type) values ('push')")
        assert states(wakelog, 0)["sequencer"] == "warn"
        connection.execute("select pg_advisory_lock(wakelog.lock_space('doorkeeper'), 0)")
        assert states(wakelog, 1)["sequencer"] == "fail"

    def test_workers_without_a_doorkeeper(self, wakelog: Wakelog, connection: Connection) -> None:
        connection.execute("select wakelog.start_worker('w', array['tests'])")
        assert states(wakelog, 1)["doorkeeper"] == "fail"

    def test_dead_workers(self, wakelog: Wakelog, database: str, connection: Connection) -> None:
        with psycopg.connect(database, autocommit=True) as gone:
            gone.execute("select wakelog.start_worker('gone', array['tests'])")
        until(lambda: one(connection, "select bool_and(not alive) from wakelog.workers"))
        assert states(wakelog, 0)["workers"] == "warn"

    def test_a_log_from_another_cluster(self, wakelog: Wakelog, connection: Connection) -> None:
        connection.execute("update wakelog.sequencer set system_identifier = 1")
        assert states(wakelog, 1)["cluster"] == "fail"
        assert wakelog("db", "rebase", "--json").json == {"events_added": 0}
        assert "cluster" not in states(wakelog, 0)

    def test_no_schema(self, wakelog: Wakelog, empty_database: str) -> None:
        ended = wakelog("doctor", "--json", "--database", empty_database)
        assert ended.code == 1
        assert ended.json["checks"][-1]["do"] == "wakelog db upgrade"


def test_careless_settings_are_broken_ones(wakelog: Wakelog) -> None:
    found = states(wakelog, 1)
    assert found["setting fsync"] == "fail"


def test_durable_settings_are_well(bare: Wakelog, crashable_server: ThrowawayPostgres) -> None:
    ended = bare("doctor", "--json", "--database", crashable_server.url())
    assert ended.code == 0
    assert {"check": "settings", "state": "ok"}.items() <= ended.json["checks"][2].items()


def test_nobody_there(bare: Wakelog) -> None:
    ended = bare("doctor", "--json", "--database", "postgresql://me:secret@127.0.0.1:1/x")
    assert ended.code == 1
    assert ended.json["checks"][0]["check"] == "reachable"
    assert "secret" not in ended.out
