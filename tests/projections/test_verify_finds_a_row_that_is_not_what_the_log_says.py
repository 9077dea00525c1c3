"""`wakelog projection verify` folds the log again, compares row by row at one position, and names what differs."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.cli.command import Wakelog
from tests.cli.conftest import bare, wakelog
from tests.projections import folds
from tests.projections.producers import Producers
from tests.worker.waiting import one

from wakelog import Wakelog as Application
from wakelog.testing import LogUnderTest

__all__ = ["bare", "wakelog"]


@pytest.fixture(params=["async", "inline"])
def log(
    connection: psycopg.Connection, database: str, request: pytest.FixtureRequest
) -> Iterator[LogUnderTest]:
    app = Application("test")
    app.projection("totals", sql=folds.SQL, tables=folds.SQL_TABLES, mode=request.param)
    folds.count(connection, range(1000))
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
        yield log


def test_all_is_well(wakelog: Wakelog, log: LogUnderTest) -> None:
    ended = wakelog("projection", "verify", "totals", "--json")
    assert (ended.code, ended.json["same"], ended.json["rows"], ended.json["position"]) == (0, True, 5, 1000)
    assert one(log.connection, "select count(*) from wakelog.projection_builds") == 1


@pytest.mark.parametrize(
    ("tamper", "serving", "rebuilt"),
    [
        ("update totals.totals set sum = sum + 1 where key = 'k3'", "(k3,200,100101)", "(k3,200,100100)"),
        ("delete from totals.totals where key = 'k3'", None, "(k3,200,100100)"),
        ("insert into totals.totals values ('k31', 1, 1)", "(k31,1,1)", None),
    ],
)
def test_a_row_was_tampered_with(
    wakelog: Wakelog, log: LogUnderTest, tamper: str, serving: str | None, rebuilt: str | None
) -> None:
    log.connection.execute(tamper.encode())
    ended = wakelog("projection", "verify", "totals", "--json")
    assert ended.code == 1
    assert ended.json["difference"] == {"table": "totals", "serving": serving, "rebuilt": rebuilt}
    assert "wakelog projection rebuild totals" in wakelog("projection", "verify", "totals").out
    assert wakelog("projection", "rebuild", "totals").code == 0
    assert wakelog("projection", "verify", "totals").code == 0


def test_whatever_its_columns_are_called(
    wakelog: Wakelog, connection: psycopg.Connection, database: str
) -> None:
    app = Application("test")
    app.projection(
        "named", tables="create table named (t int primary key, r int, n int)",
        sql="insert into named select position, 1, 1 from new_events",
    )  # fmt: skip
    folds.count(connection, range(3))
    with LogUnderTest(database) as log:
        log.run_until_idle(app)
    assert wakelog("projection", "verify", "named").code == 0
    assert (
        wakelog("projection", "show", "named", "--position", "3", "--json").json["tables"]["named"][2]["t"]
        == 3
    )
    connection.execute("update named.named set n = 2 where t = 2")
    ended = wakelog("projection", "verify", "named", "--json")
    assert (ended.code, ended.json["difference"]["serving"]) == (1, "(2,1,2)")


def test_while_others_append(wakelog: Wakelog, log: LogUnderTest, database: str) -> None:
    with Producers(database):
        for _ in range(3):
            ended = wakelog("projection", "verify", "totals")
            assert ended.code == 0, ended.out
