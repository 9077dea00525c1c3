"""wakelog types: what there is, what the code says of it, and whether the two fit."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Processes, Wakelog
from tests.worker.waiting import until

from wakelog.errors import BadInput
from wakelog.log.models import forget_models
from wakelog_cli.options import import_models

MODELS = """
from pydantic import BaseModel
from wakelog import event_model, upcaster

@event_model("order.placed", version=2, closed=True)
class OrderPlaced(BaseModel):
    total: int
    currency: str

@upcaster("order.placed", 1)
def add_currency(payload):
    return payload | {"currency": "EUR"}

@event_model("order.lost")
class OrderLost(BaseModel): ...
"""

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def nothing_stays_declared() -> Iterator[None]:
    yield
    forget_models()


@pytest.fixture
def app(tmp_path: Path) -> str:
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    return str(file)


@pytest.fixture
def log(connection: Connection) -> Connection:
    """Two that can be read, two that cannot, and one of which nothing is declared."""
    connection.execute(
        """insert into wakelog.events (type, schema_version, payload) values
           ('order.placed', 1, '{"total": 1}'), ('order.placed', 2, '{"total": 2, "currency": "EUR"}'),
           ('order.placed', 2, '{"total": 3}'), ('order.placed', 3, '{}'), ('push', 1, '{}')"""
    )
    return connection


def test_list(wakelog: Wakelog, log: Connection, app: str) -> None:
    said = wakelog("types", "list", "--app", app).out
    assert "OrderPlaced 2, reads 1 too, closed" in said
    assert [(t["type"], t["events"], t["last_version"]) for t in wakelog("types", "list", "--json").json] == [
        ("order.placed", 4, 3), ("push", 1, 1),
    ]  # fmt: skip
    with_code = {t["type"]: t for t in wakelog("types", "list", "--app", app, "--json").json}
    assert with_code["order.lost"]["events"] == 0
    assert with_code["push"]["model"] is None


def test_show(wakelog: Wakelog, log: Connection, app: str) -> None:
    shown = wakelog("types", "show", "order.placed", "--app", app, "--json").json
    assert shown["versions"] == [
        {"version": 1, "events": 1}, {"version": 2, "events": 2}, {"version": 3, "events": 1},
    ]  # fmt: skip
    assert shown["last"]["payload"] == {}
    assert set(shown["schema"]["properties"]) == {"total", "currency"}
    assert "version 2: 2" in wakelog("types", "show", "order.placed").out
    ended = wakelog("types", "show", "nonsense")
    assert ended.code == 4
    assert "see: wakelog types list" in ended.err


def test_check_counts_and_shows_the_first_failures(wakelog: Wakelog, log: Connection, app: str) -> None:
    ended = wakelog("types", "check", "--app", app)
    assert ended.code == 1
    assert "position 3: order.placed of version 2 does not fit: payload.currency: Field required" in ended.out
    assert "position 4: order.placed: expected version 2 or older, found 3" in ended.out
    assert "2 events of 5 cannot be read with this code" in ended.err
    document = wakelog("types", "check", "--app", app, "--first", "1", "--json").json
    assert (document["events"], document["unreadable"], len(document["failures"])) == (5, 2, 1)
    assert [(k["version"], k["events"], k["readable"]) for k in document["types"] if k["has_model"]] == [
        (1, 1, 1), (2, 2, 1), (3, 1, 0),
    ]  # fmt: skip


def test_check_can_be_narrowed(wakelog: Wakelog, log: Connection, app: str) -> None:
    assert wakelog("types", "check", "--app", app, "--limit", "2").code == 0
    assert wakelog("types", "check", "--app", app, "--from", "5").code == 0
    assert wakelog("types", "check", "--app", app, "--type", "push").code == 0
    assert wakelog("types", "check", "--app", app, "--from", "1h").code == 1


def test_code_without_models_is_refused(wakelog: Wakelog, tmp_path: Path, database: str) -> None:
    (tmp_path / "empty.py").write_text("")
    ended = wakelog("types", "check", "--app", str(tmp_path / "empty.py"))
    assert ended.code == 2
    assert "expected models" in ended.err


def test_every_command_finds_the_code_in_the_same_way(wakelog: Wakelog, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    for app, said in (
        ("nowhere", 'there is no module "nowhere" here'), ("no.py", 'there is no file "no.py"'),
        ("broken.py:app", '"broken.py" does not import: ZeroDivisionError'), ("", "expected module:app or file.py"),
    ):  # fmt: skip
        sentences: set[str] = set()
        for command in (["tail"], ["types", "list"], ["types", "show", "a"], ["types", "check"]):
            ended = wakelog(*command, "--app", app)
            assert ended.code == 2
            assert said in ended.err
            sentences.add(ended.err)
        assert len({sentence.partition("; see: ")[0] for sentence in sentences}) == 1
        with pytest.raises(BadInput, match=re.escape(said)):
            import_models(app)
    import_models(None)


def test_ctrl_c_says_how_far_it_came(
    log: Connection, database: str, processes: Processes, tmp_path: Path
) -> None:
    log.execute(
        "insert into wakelog.events (type, payload) select 'slow', '{}' from generate_series(1, 3000)"
    )
    (tmp_path / "slow.py").write_text(
        "import time, pathlib\n"
        "from pydantic import BaseModel, model_validator\n"
        "from wakelog import event_model\n"
        "@event_model('slow')\n"
        "class Slow(BaseModel):\n"
        "    @model_validator(mode='after')\n"
        "    def wait(self):\n"
        "        pathlib.Path(__file__).with_name('began').touch(); time.sleep(0.02); return self\n"
    )
    checking = processes.start("types", "check", "--app", "slow.py", "--database", database, folder=tmp_path)
    until((tmp_path / "began").exists)
    checking.send_signal(signal.SIGINT)
    _, said = checking.communicate(timeout=20)
    assert checking.returncode == 130
    assert "interrupted after" in said
    assert "to go on: wakelog types check --app slow.py --from" in said


def test_tail_shows_events_as_the_code_reads_them(wakelog: Wakelog, log: Connection, app: str) -> None:
    events = wakelog("tail", "--app", app, "--json").lines
    assert [event.get("data") for event in events] == [
        {"total": 1, "currency": "EUR"}, {"total": 2, "currency": "EUR"}, None, None, None,
    ]  # fmt: skip
    assert events[0]["payload"] == {"total": 1}
    assert "payload.currency: Field required" in events[2]["unreadable"]
    assert "expected version 2 or older, found 3" in events[3]["unreadable"]
    assert "unreadable" not in events[4]
    said = wakelog("tail", "--app", app).out
    assert '{"total": 1, "currency": "EUR"}' in said
    assert "(order.placed: expected version 2 or older, found 3)" in said


def test_a_version_may_be_said_at_append(wakelog: Wakelog, connection: Connection) -> None:
    wakelog("append", "order.placed", "{}", "--schema-version", "7")
    assert connection.execute("select schema_version from wakelog.events").fetchone() == (7,)


def test_json_that_python_cannot_read_is_one_that_cannot_be_read_and_no_end(
    wakelog: Wakelog, connection: Connection, app: str
) -> None:
    insert = "insert into wakelog.events (type, schema_version, payload) values ('order.placed', 1, %s)"
    for payload in ("[" * 3000 + "]" * 3000, '{"total": 1}'):
        connection.execute(insert, [payload])
    checked = wakelog("types", "check", "--app", app, "--json")
    assert checked.code == 1
    assert (checked.json["events"], checked.json["unreadable"]) == (2, 1)
    assert "its JSON cannot be read in Python" in checked.json["failures"][0]["error"]
    assert len(wakelog("tail", "--app", app, "--json").lines) == 2
    assert len(wakelog("tail").out.splitlines()) == 2
