-- Whether something an agent may want lies above its cursor. Looks at types only: the other filters may
-- still turn it all down. Of an agent with more than a thousand types that is far behind, it is taken for granted.
create or replace function wakelog.has_fresh(p_agent wakelog.agents, p_cursor bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_ahead bigint := wakelog.head() - p_cursor;
    v_types bigint;
begin
    if v_ahead <= 0 then
        return false;
    elsif p_agent.type_regex is null then
        return true;
    end if;
    v_types := (select count(*) from (
        select from wakelog.agent_types w where w.agent_id = p_agent.id limit 1001) w);
    if v_types <= least(v_ahead, 1000) then
        return exists (select wakelog.moved_types(p_agent.id, p_cursor));
    elsif v_ahead <= 1000 then
        return exists (
            select from wakelog.log l join wakelog.agent_types w on w.agent_id = p_agent.id and w.type_id = l.type_id
            where l.position > p_cursor);
    end if;
    return true;
end
$$;
