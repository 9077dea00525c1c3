-- Give deliveries back untried (a worker shutting down, a handler that says "not me, not now"): they may be
-- claimed again after p_delay, and the attempt does not count. Returns how many were still held.
create or replace function wakelog.release(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[],
    p_delay interval default '0'
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
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_now timestamptz := wakelog.clock();
    v_rows tid[];
    v_count bigint;
begin
    v_rows := array(
        select held.ctid
        from unnest(p_positions, p_attempts) as p (position, attempt)
        cross join lateral (
            select d.ctid from wakelog.deliveries d
            where d.agent_id = v_agent_id and d.position = p.position
              and d.worker = p_worker and d.attempt = p.attempt and d.available_at > v_now
            for update) held);
    update wakelog.deliveries d
    set worker = null, attempt = d.attempt - 1, available_at = v_now + p_delay
    where d.ctid = any (v_rows);
    get diagnostics v_count = row_count;
    if v_count > 0 and p_delay <= '0' then
        perform pg_notify('wakelog', 'ring');
    end if;
    return v_count;
end
$$;
