-- The first of each line of an agent's deliveries, in the order of position; keys without a line are left out.
--
-- Looked up by its beginning in the index of lines, whatever the statistics say: one claim may put more in line than
-- there was when they were made, and plans are kept. No other index has that order, and sorting is disabled; costs then
-- look so high that JIT would compile each plan.
create or replace function wakelog.first_in_line(p_agent_id integer, p_keys text[])
returns table (key text, "position" bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
begin
    return query
    select f.key, f.position from (select distinct unnest(p_keys) as key) k
    cross join lateral (
        select x.key, x.position from wakelog.deliveries x
        where x.agent_id = p_agent_id and x.key >= k.key
        order by x.key, x.position limit 1) f
    where f.key = k.key
    order by f.position;
end
$$;
