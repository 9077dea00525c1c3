-- Events of a bounded agent are finished: their slots are free.
create or replace function wakelog.free_slots(p_agent wakelog.agents, p_positions bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_agent.capacity is null then
        return;
    end if;
    update wakelog.slots s set seq = null
    from wakelog.log l
    where l.position = any (p_positions) and s.agent_id = p_agent.id and s.seq = l.seq;
    perform wakelog.close_ranks(p_agent);
end
$$;
