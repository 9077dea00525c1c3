"""Ctrl-C while the demo looks back, in whichever part: it ends with 130 and a sentence, and nothing of it is left."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from tests.demo.running import left_behind, start_demo
from tests.worker.waiting import one, until

Connection = psycopg.Connection[Any]

STOP = 4711
"""An advisory lock at which the demo is held up."""
PARTS: dict[str, tuple[LiteralString, LiteralString, LiteralString]] = {
    # The table that is written to then, by whom.
    "a rebuild": ("checkpoints", "update", "b.state = 'building' and b.attended"),
    "a comparison": ("checkpoints", "update", "b.state = 'aside'"),
    "a look at two minutes ago": ("checkpoints", "insert", "b.state = 'aside' and b.upto = 0"),
    "a look at the kill": (
        "checkpoints",
        "update",
        "b.state = 'aside' and b.upto < (select head from wakelog.sequencer)",
    ),
    "a fork": ("forks", "insert", "true"),
    "the sealing": ("seals", "insert", "true"),
}
IN_USE = """
    select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")


@contextmanager
def held_up(
    connection: Connection, table: LiteralString, event: LiteralString, condition: LiteralString
) -> Iterator[None]:
    """Whoever writes to this table of Wakelog's, about a build of which that holds, waits until the block ends."""
    connection.execute(
        sql.SQL(
            """create function public.stop_here() returns trigger language plpgsql as $$
               begin
                   if not to_jsonb(new) ? 'build_id' or exists (
                       select from wakelog.projection_builds b
                       where b.id = (to_jsonb(new) ->> 'build_id')::int and {condition}
                   ) then
                       perform pg_advisory_xact_lock_shared({lock});
                   end if;
                   return new;
               end $$;
               create trigger stop_here before {event} on {table} for each row execute function public.stop_here()"""
        ).format(
            lock=sql.Literal(STOP), event=sql.SQL(event), condition=sql.SQL(condition),
            table=sql.Identifier("wakelog", table),
        )
    )  # fmt: skip
    connection.execute("select pg_advisory_lock(%s)", [STOP])
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [STOP])
        connection.execute("drop function public.stop_here() cascade")


def interrupted(connection: Connection, database: str, folder: Path, part: str) -> None:
    """Run the demo to that part, interrupt it there, and look for what it has left."""
    waits = "select count(*) > 0 from pg_locks where locktype = 'advisory' and objid = %s and not granted"
    with held_up(connection, *PARTS[part]):
        demo = start_demo(folder, "--commits", "1", database=database)
        if part == "the sealing":
            # At which the doorkeeper may be instead, for whom the demo waits.
            assert demo.stdout is not None
            assert any("$ wakelog seal now" in line for line in demo.stdout)
        until(lambda: demo.poll() is not None or one(connection, waits, STOP), within=40)
        # To all of them, as a terminal does. A transaction of the fold may come to its end, another thing is cut off.
        os.killpg(demo.pid, signal.SIGINT)
    # And twice, as impatient people do.
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGINT)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, (out, err)
    [sentence] = err.splitlines()
    assert (
        sentence
        == "wakelog: the demo was interrupted, and all that it had started has ended; again: wakelog demo"
    )
    assert left_behind(folder) == []
    assert list(folder.iterdir()) == []
    until(lambda: one(connection, IN_USE) == 0)
    assert connection.execute("select state from wakelog.projection_builds").fetchall() == [("serving",)]
    assert one(connection, "select count(*) from pg_namespace where nspname like 'ci\\_runs%%'") == 1


def test_in_a_comparison_after_which_it_comes_out_right(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        interrupted(connection, database, tmp_path, "a comparison")
    _comes_out_right(database, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("part", [part for part in PARTS if part != "a comparison"])
def test_in_any_part_after_which_it_comes_out_right(database: str, tmp_path: Path, part: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        interrupted(connection, database, tmp_path, part)
    _comes_out_right(database, tmp_path)


def _comes_out_right(database: str, folder: Path) -> None:
    demo = start_demo(folder, "--commits", "1", database=database)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0, (out, err)
