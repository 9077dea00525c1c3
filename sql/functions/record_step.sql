-- Remember what a step returned, and return it; or what it returned the first time, if it has finished
-- before. WL002 where the worker no longer holds the delivery.
create or replace function wakelog.record_step(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_name text, p_result jsonb
) returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
    v_result jsonb;
begin
    insert into wakelog.steps (agent_id, position, name, result)
    values (v_delivery.agent_id, p_position, p_name, p_result)
    on conflict (agent_id, position, name) do nothing
    returning result into v_result;
    if not found then
        select s.result into strict v_result from wakelog.steps s
        where s.agent_id = v_delivery.agent_id and s.position = p_position and s.name = p_name;
    end if;
    return v_result;
end
$$;
