-- Forget an agent: its cursor, its deliveries, dead letters, steps and history. What is being worked on can
-- no longer be finished. The events stay.
create or replace function wakelog.remove_agent(p_agent text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
begin
    perform wakelog.lock_cursor(v_agent_id);
    delete from wakelog.deliveries d where d.agent_id = v_agent_id;
    delete from wakelog.dead d where d.agent_id = v_agent_id;
    delete from wakelog.steps s where s.agent_id = v_agent_id;
    delete from wakelog.history h where h.agent_id = v_agent_id;
    delete from wakelog.agents a where a.id = v_agent_id;
end
$$;
