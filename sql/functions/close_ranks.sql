-- Where an agent's capacity has become smaller: events in slots beyond it move into free ones, and the slots beyond go.
create or replace function wakelog.close_ranks(p_agent wakelog.agents) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_beyond wakelog.slots;
    v_free integer;
begin
    delete from wakelog.slots s where s.agent_id = p_agent.id and s.slot > p_agent.capacity and s.seq is null;
    loop
        select s.* into v_beyond from wakelog.slots s
        where s.agent_id = p_agent.id and s.slot > p_agent.capacity
        order by s.slot limit 1
        for update skip locked;
        exit when not found;
        select s.slot into v_free from wakelog.slots s
        where s.agent_id = p_agent.id and s.seq is null
        limit 1
        for update skip locked;
        exit when not found;
        delete from wakelog.slots s where s.agent_id = p_agent.id and s.slot = v_beyond.slot;
        update wakelog.slots s set seq = v_beyond.seq where s.agent_id = p_agent.id and s.slot = v_free;
    end loop;
end
$$;
