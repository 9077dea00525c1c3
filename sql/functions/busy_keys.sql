-- Those of the keys that have a line already, with its first row locked until this transaction ends.
--
-- The lock is what keeps a line from being forgotten. Who finishes the first of a line deletes its row, and then
-- lets the next one step forward; whoever adds to the line at that moment must either be seen by that, or see
-- that the line has gone. So: lock first, look again after. In the order of position, as those who finish do.
create or replace function wakelog.busy_keys(p_agent_id integer, p_keys text[]) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from wakelog.deliveries d
    where d.agent_id = p_agent_id
      and d.position in (
          select f.position from (select distinct unnest(p_keys) as key) k
          cross join lateral (
              select x.position from wakelog.deliveries x
              where x.agent_id = p_agent_id and x.key = k.key
              order by x.position limit 1) f)
    order by d.position
    for share;

    return array(
        select k.key from (select distinct unnest(p_keys) as key) k
        where exists (select from wakelog.deliveries x where x.agent_id = p_agent_id and x.key = k.key));
end
$$;
