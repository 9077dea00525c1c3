-- A worker's sign of life: prolongs the leases of all it holds that have not run out. Returns how many;
-- WL007 where it has been found dead and must start anew.
create or replace function wakelog.heartbeat(
    p_worker bigint, p_agents text[], p_positions bigint[], p_lease interval default '30 seconds'
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := wakelog.clock();
    v_rows tid[];
    v_count bigint;
begin
    perform wakelog.check_worker(p_worker);
    update wakelog.worker_sessions w set seen_at = v_now where w.id = p_worker;

    -- A row that is locked is being finished, or taken over, at this moment.
    v_rows := array(
        select held.ctid
        from unnest(p_agents, p_positions) as p (agent, position)
        cross join lateral (select a.id from wakelog.agents a where a.name = p.agent offset 0) a
        cross join lateral (
            select d.ctid from wakelog.deliveries d
            where d.agent_id = a.id and d.position = p.position and d.worker = p_worker and d.available_at > v_now
            for update skip locked) held);
    update wakelog.deliveries d set available_at = greatest(d.available_at, v_now + p_lease)
    where d.ctid = any (v_rows);
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
