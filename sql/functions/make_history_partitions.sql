-- Make history's partitions from today to p_days ahead, one a day (UTC), and those of the days for which the
-- default one has collected rows, which move in. Returns how many were made. The doorkeeper does this every
-- hour.
create or replace function wakelog.make_history_partitions(p_days integer default 3) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_today date := (wakelog.clock() at time zone 'UTC')::date;
    v_day date;
    v_name text;
    v_made integer := 0;
begin
    for v_day in
        select v_today + n from generate_series(0, least(p_days, 31)) as n
        union
        select (h.finished_at at time zone 'UTC')::date from wakelog.history_default h
        order by 1
    loop
        v_name := 'history_' || to_char(v_day, 'YYYY_MM_DD');
        continue when to_regclass('wakelog.' || v_name) is not null;
        -- A row that comes in between the moving and the attaching would forbid the attaching. Whoever reads the
        -- history for long (pg_dump) is not to be waited for: the default partition serves until next time.
        begin
            lock table wakelog.history_default in access exclusive mode nowait;
        exception
            when lock_not_available then return v_made;
        end;
        execute format('create table wakelog.%I (like wakelog.history including defaults)', v_name);
        execute format(
            'with moved as (delete from wakelog.history_default where finished_at >= %L and finished_at < %L returning *)
             insert into wakelog.%I select * from moved',
            v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC', v_name);
        execute format('alter table wakelog.history attach partition wakelog.%I for values from (%L) to (%L)',
            v_name, v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC');
        v_made := v_made + 1;
    end loop;
    return v_made;
end
$$;
