-- Drop the history of whole days (UTC) that ended before p_before: tables go, no row is deleted, and nothing
-- that is unread or unfinished is touched, for only finished work is in the history. The steps of work finished
-- before then go too, which are rows to delete: first, since whoever finishes work waits once the first table is dropped.
-- Returns the days dropped.
create or replace function wakelog.drop_history(p_before timestamptz) returns setof date
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
    v_day date;
begin
    -- What finished deliveries remember of their steps goes with their history.
    delete from wakelog.steps s
    where s.finished_at < p_before
      and not exists (select from wakelog.deliveries d
                      where d.agent_id = s.agent_id and d.position = s.position)
      -- A dead letter may be tried again, and its finished steps are not to be repeated.
      and not exists (select from wakelog.dead d
                      where d.agent_id = s.agent_id and d.position = s.position);

    for v_name, v_day in
        select c.relname, to_date(right(c.relname, 10), 'YYYY_MM_DD')
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'wakelog.history'::regclass
          and c.relname ~ '^history_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
        order by c.relname
    loop
        continue when (v_day + 1)::timestamp at time zone 'UTC' > p_before;
        execute format('drop table wakelog.%I', v_name);
        return next v_day;
    end loop;
end
$$;
