"""Ctrl-C comes between any two lines of a look aside, also at its beginning and at its end: no tables stay."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest
from tests.worker.waiting import one

from wakelog import Wakelog
from wakelog.postgres.connect import connect
from wakelog.projections import aside
from wakelog.projections.builds import Build
from wakelog.projections.provenance import why
from wakelog.projections.runner import catch_up
from wakelog.projections.verifying import verify
from wakelog_cli.rebuilding import as_it_was, fold_build

Connection = psycopg.Connection[Any]
Line = tuple[str, int]
Look = Callable[[Connection, str, Wakelog], object]

AT_EVERY_LINE_OF = (str(Path(aside.__file__)),)
AND_OF = ("why", "verify", "as_it_was")
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


@contextmanager
def lines(at: Callable[[Line], None]) -> Iterator[None]:
    """Have the lines of what looks aside told, each before it runs."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if code.co_filename not in AT_EVERY_LINE_OF and code.co_name not in AND_OF:
            return None
        if event == "line":
            at((code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("look", LOOKS)
def test_the_next_one_finds_nothing(connection: Connection, database: str, look: Look) -> None:
    app = Wakelog("shop")
    app.projection("sums", on="paid", tables="create table sums (id int primary key, n bigint)", sql=SUM)
    connection.execute("insert into wakelog.events (type) select 'paid' from generate_series(1, 3)")
    connection.execute("select wakelog.sequence()")
    assert catch_up(database, app.projections) == []

    seen: dict[Line, None] = {}
    with lines(lambda line: seen.setdefault(line)):
        look(connection, database, app)
    assert len(seen) > 40
    assert one(connection, LEFT) == 0

    for wanted in seen:

        def interrupt(line: Line, wanted: Line = wanted) -> None:
            if line == wanted:
                raise KeyboardInterrupt  # which ends the tracing, too

        with connect(database) as own, suppress(KeyboardInterrupt), lines(interrupt):
            look(own, database, app)
        assert one(connection, LEFT) == 0, wanted
