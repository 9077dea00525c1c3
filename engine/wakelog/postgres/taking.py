"""The locks of an upgrade: all that it needs, before it changes anything, and without a deadlock for anybody.

How this stays correct
----------------------
Workers and producers go on during an upgrade, and lock the tables in every order there is: an acknowledgement reads the
agents and then appends, a handler appends and is then acknowledged. So an upgrade that held one table and waited for
another would be in a deadlock with them now and then, and it is they who would be told.

      wait for the first lock, holding nothing --> take the others, in a round --> all taken: go on
                          ^                                   |
                          |                                   v
                          '-- the one that was not granted <-- let go of all of them
                              is the first now

A round is shorter than deadlock_timeout, after which a session that waits for us would look whether we wait for it. It
is shorter, too, than the half second for which a worker's claim waits. While the first lock is waited for, whoever
comes later waits behind it; so that lasts as long as lock_timeout says, in all, and no longer.
"""

from typing import LiteralString

from psycopg import sql

from wakelog.postgres.sources import replaceable_views

_TAKE: LiteralString = """
do $$
declare
    v_patience constant text := current_setting('lock_timeout');
    v_until constant timestamptz := clock_timestamp() + v_patience::interval;
    v_round constant interval := least(current_setting('deadlock_timeout')::interval / 2, interval '200 ms');
    v_round_until timestamptz;
    v_step text;
    v_steps text[] := array(
        select pg_catalog.format('lock table %s in {mode} mode', c.oid::regclass)
        from pg_catalog.pg_class c
        where c.relnamespace = 'wakelog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
          and c.relname <> 'alembic_version' and (c.relname = 'events' or {all_of_them})
        order by c.relname <> 'events', c.relname);
begin
    -- Nobody is sequencing, or registering an agent, while tables change.
    if {all_of_them} then
        v_steps := array['select pg_catalog.pg_advisory_xact_lock(2002873191, 0)'] || v_steps;
    end if;
    -- Dropped, they are locked; and create or replace could neither drop nor retype their columns.
    v_steps := v_steps || array(
        select pg_catalog.format('drop view if exists wakelog.%I', v.name)
        from unnest({views}::text[]) with ordinality as v (name, place) order by v.place desc);
    loop
        begin
            v_round_until := null;
            foreach v_step in array v_steps loop
                perform pg_catalog.set_config('lock_timeout', greatest(1, 1000 * extract(
                    epoch from coalesce(v_round_until, v_until) - clock_timestamp()))::integer::text, true);
                execute v_step;
                v_round_until := coalesce(v_round_until, clock_timestamp() + v_round);
            end loop;
            exit;
        exception when lock_not_available then
            if clock_timestamp() >= v_until - interval '1 ms' then
                raise exception 'not granted within %: %', v_patience, v_step using errcode = 'lock_not_available';
            end if;
            v_steps := v_step || array_remove(v_steps, v_step);
        end;
        perform pg_sleep(0.01);
    end loop;
    perform pg_catalog.set_config('lock_timeout', v_patience, true);
end
$$;
"""


def take_sql(*, tables_change: bool) -> str:
    """Lock what an upgrade changes, within the lock_timeout that is set, and drop the views, which it makes anew.

    All tables where revisions change them; where only functions are replaced, `events` for its triggers, and readers go
    on. Raises LockNotAvailable in the database, naming what was not granted; nothing is held then.
    """
    return (
        sql.SQL(_TAKE)
        .format(
            mode=sql.SQL("access exclusive" if tables_change else "share row exclusive"),
            all_of_them=sql.Literal(tables_change),
            views=sql.Literal(replaceable_views()),
        )
        .as_string(None)
    )
