"""Where the database is slow to take what is done, a worker claims no more, and keeps its standing."""

from typing import Any

import psycopg
from tests.worker.conftest import StartWorkers
from tests.worker.waiting import one, until

from wakelog.worker.shift import UNWRITTEN

Connection = psycopg.Connection[Any]

APP = """
@app.agent("echo", on="work", start="beginning")
async def echo(event, ctx): ...
"""
SLOTS = 4


def test_what_is_done_and_not_yet_written_does_not_pile_up(
    connection: Connection, start_workers: StartWorkers
) -> None:
    connection.execute(
        """create table public.most (in_hand bigint);
           create function wait() returns trigger language plpgsql as
           $$ begin perform pg_advisory_xact_lock(77); return null; end $$;
           create function count_them() returns trigger language plpgsql as
           $$ begin insert into public.most select count(*) from wakelog.deliveries; return null; end $$;
           create trigger wait before delete on wakelog.deliveries for each statement execute function wait();
           create trigger count_them after insert on wakelog.deliveries
           for each statement execute function count_them();
           select pg_advisory_lock(77);
           insert into wakelog.events (type) select 'work' from generate_series(1, 6000)"""
    )
    start_workers(APP, slots=SLOTS)
    until(lambda: one(connection, "select max(in_hand) >= %s from most", SLOTS + UNWRITTEN))
    connection.execute("select pg_advisory_unlock(77)")
    until(lambda: one(connection, "select count(*) = 6000 from wakelog.history"))
    assert one(connection, "select max(in_hand) from most") == SLOTS + UNWRITTEN


def test_a_worker_whose_row_is_locked_for_long_is_not_lost(
    connection: Connection, database: str, start_workers: StartWorkers
) -> None:
    workers = start_workers(APP, slots=SLOTS)
    before = workers.pids()
    tries: set[object] = set()

    def tried_again() -> bool:
        tries.add(
            one(
                connection,
                """select min(query_start) from pg_stat_activity
                   where wait_event_type = 'Lock' and query ~ 'wakelog.(fall_asleep|wake_up)'""",
            )
        )
        return len(tries - {None}) > 1

    with psycopg.connect(database) as holding:
        holding.execute("select from wakelog.worker_sessions for update")
        until(tried_again)
    connection.execute("insert into wakelog.events (type) values ('work')")
    until(lambda: one(connection, "select count(*) = 1 from wakelog.history"))
    assert workers.pids() == before
