-- Record a failed attempt: the delivery waits for its next try, or is given up. Returns the time of the
-- next try, null when given up.
--
-- p_retry_in overrides the agent's backoff; p_final gives up at once. WL002 where the worker no longer
-- holds the delivery. Call it in a transaction of its own, after the work's has been rolled back.
create or replace function wakelog.fail(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_error text,
    p_detail text default null, p_retry_in interval default null, p_final boolean default false
) returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
    v_agent wakelog.agents;
    v_failed integer := v_delivery.attempt - v_delivery.stalled;
    v_now timestamptz := wakelog.clock();
    v_next timestamptz;
begin
    select a.* into strict v_agent from wakelog.agents a where a.id = v_delivery.agent_id;
    v_delivery.failures := wakelog.add_failure(
        v_delivery.failures, p_attempt, p_worker, v_delivery.claimed_at, v_now, 'failed', p_error, p_detail);

    if p_final or v_failed >= v_agent.max_attempts then
        perform wakelog.bury(v_agent, v_delivery,
                             case when p_final then 'do_not_retry' else 'max_attempts' end);
        return null;
    end if;
    v_next := v_now + coalesce(p_retry_in, wakelog.backoff(v_agent.backoff, v_failed));
    update wakelog.deliveries d
    set worker = null, available_at = v_next, failures = v_delivery.failures
    where d.agent_id = v_delivery.agent_id and d.position = p_position;
    return v_next;
end
$$;
