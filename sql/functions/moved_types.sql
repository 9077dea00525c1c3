-- The types an agent wants of which something lies above p_after. One look for each type: the comparison of both
-- columns at once leaves the planner no other index.
create or replace function wakelog.moved_types(p_agent_id integer, p_after bigint)
returns table (type_id integer)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    return query
    select w.type_id from wakelog.agent_types w
    cross join lateral (
        select l.position from wakelog.log l
        where (l.type_id, l.position) > (w.type_id, p_after)
          and (l.type_id, l.position) <= (w.type_id, 9223372036854775807)
        order by l.type_id, l.position limit 1
    ) first
    where w.agent_id = p_agent_id;
end
$$;
