"""Ctrl-C comes whenever a look aside waits for the database, also at its beginning and its end: no tables stay."""

import gc
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.postgres.connect import connect
from wakelog.projections import aside, builds
from wakelog.projections.builds import Build
from wakelog.projections.provenance import why
from wakelog.projections.runner import catch_up
from wakelog.projections.verifying import verify
from wakelog_cli.rebuilding import as_it_was, fold_build

Connection = psycopg.Connection[Any]
Look = Callable[[Connection, str, Wakelog], object]

LEFT = """
    select (select count(*) from wakelog.projection_builds where state = 'aside')
         + (select count(*) from pg_namespace where nspname like 'sums\\_%%' or nspname = 'then')
"""
SUM = """
    insert into sums select 1, count(*) from new_events
    on conflict (id) do update set n = sums.n + excluded.n
"""


def ask_why(connection: Connection, url: str, app: Wakelog) -> None:
    list(why(connection, url, "sums", app.projections["sums"], "sums", {"id": "1"}, 3))


def compare(connection: Connection, url: str, app: Wakelog) -> None:
    definition = app.projections["sums"]

    def fold(build: Build) -> None:
        fold_build(connection, url, build, definition, None, 1, serve=False)

    assert verify(connection, url, "sums", definition, fold).difference is None


def look_back(connection: Connection, url: str, app: Wakelog) -> None:
    as_it_was(connection, url, "sums", app.projections["sums"], None, 2)


LOOKS: list[Look] = [ask_why, compare, look_back]


class Interrupted:
    """Counts the moments before something is asked of the database and after it was answered; or interrupts at one.

    Where a look waits is where a Ctrl-C finds it, nearly always; between two of these moments it is in Python, for a
    few microseconds.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.moments = 0

    def pass_by(self) -> None:
        self.moments += 1
        if self.moments == self.at:
            raise KeyboardInterrupt

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            self.pass_by()
            answer = method(*args, **kwargs)
            self.pass_by()
            return answer

        return asked


def interrupted(patch: pytest.MonkeyPatch, at: int | None = None) -> Interrupted:
    """What every connection that looks aside is asked for from now on."""
    moments = Interrupted(at)
    for method in ("execute", "commit", "rollback", "close"):
        patch.setattr(psycopg.Connection, method, moments.around(getattr(psycopg.Connection, method)))
    for module in (aside, builds):
        for name in ("connect", "call"):
            if hasattr(module, name):
                patch.setattr(module, name, moments.around(getattr(module, name)))
    return moments


# As at a real Ctrl-C, which ends the process and its connections.
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("look", LOOKS)
def test_the_next_one_finds_nothing(connection: Connection, database: str, look: Look) -> None:
    app = Wakelog("shop")
    app.projection("sums", on="paid", tables="create table sums (id int primary key, n bigint)", sql=SUM)
    connection.execute("insert into wakelog.events (type) select 'paid' from generate_series(1, 3)")
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []

    with pytest.MonkeyPatch.context() as patch:
        uninterrupted = interrupted(patch)
        look(connection, database, app)
    assert uninterrupted.moments >= 20
    assert one(connection, LEFT) == 0

    for at in range(1, uninterrupted.moments + 1):
        with connect(database) as own, pytest.MonkeyPatch.context() as patch:
            interrupted(patch, at)
            with pytest.raises(KeyboardInterrupt):
                look(own, database, app)
        assert one(connection, LEFT) == 0, at
    gc.collect()  # here, where it is allowed, and not in the middle of whatever test comes later
