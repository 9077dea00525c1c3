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
    perform from wakelog.first_in_line(p_agent_id, p_keys) f
    cross join lateral (
        select from wakelog.deliveries d
        where d.agent_id = p_agent_id and d.position = f.position
        for share) held;

    return array(select f.key from wakelog.first_in_line(p_agent_id, p_keys) f);
end
$$;
