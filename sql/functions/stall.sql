-- Record that deliveries came to no end, though the worker lives: the handler's connection was lost under it. They count
-- as stalled, as if the worker had died over them, and may be claimed again after p_delay; one that has stalled too
-- often is given up. Returns how many were still held.
create or replace function wakelog.stall(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[], p_error text,
    p_delay interval default '0'
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_agent wakelog.agents;
    v_delivery wakelog.deliveries;
    v_now timestamptz := wakelog.clock();
    v_count bigint := 0;
begin
    select a.* into strict v_agent from wakelog.agents a where a.id = v_agent_id;
    for v_delivery in
        select held.*
        from (select * from unnest(p_positions, p_attempts) as p (position, attempt) order by p.position) p
        cross join lateral (
            select d.* from wakelog.deliveries d
            where d.agent_id = v_agent_id and d.position = p.position and d.attempt = p.attempt
              and d.worker = p_worker and (d.available_at > v_now) is true
            for update) held
    loop
        v_count := v_count + 1;
        v_delivery.stalled := v_delivery.stalled + 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, p_worker, v_delivery.claimed_at, v_now, 'stalled', p_error, null);
        if v_delivery.stalled > v_agent.max_stalled then
            perform wakelog.bury(v_agent, v_delivery, 'stalled');
        else
            update wakelog.deliveries d
            set worker = null, stalled = v_delivery.stalled, failures = v_delivery.failures,
                available_at = v_now + p_delay
            where d.agent_id = v_agent_id and d.position = v_delivery.position;
        end if;
    end loop;
    return v_count;
end
$$;
