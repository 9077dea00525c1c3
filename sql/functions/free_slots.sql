-- Events of a bounded agent are finished: there is room for others, unless it is owed.
create or replace function wakelog.free_slots(p_agent wakelog.agents, p_positions bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    if p_agent.capacity is null then
        return;
    end if;
    delete from wakelog.slots s using wakelog.log l
    where l.position = any (p_positions) and s.agent_id = p_agent.id and s.seq = l.seq;
    get diagnostics v_count = row_count;
    -- One that was dropped while it was being handed out has been worked on after all.
    delete from wakelog.dropped x using wakelog.log l
    where l.position = any (p_positions) and x.agent_id = p_agent.id and x.seq = l.seq;
    v_count := v_count - wakelog.take_room(p_agent.id, v_count, true);
    insert into wakelog.room (agent_id) select p_agent.id from generate_series(1, v_count);
end
$$;
