-- Finish deliveries whose work is done, and append the events they answer with; returns the positions
-- finished. One that the worker no longer holds is left out, and so are its events.
--
-- Rows are looked up one by one, by the whole key, and then taken by their place: given both at once, the planner may
-- read all rows of an agent instead, when it takes them to be few.
--
-- p_events as for wakelog.emit. All in the caller's transaction: effects made in it happen exactly once.
create or replace function wakelog.ack_many(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[], p_events jsonb default '[]'
) returns setof bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_agent wakelog.agents;
    v_now timestamptz := wakelog.clock();
    v_rows tid[];
    v_acked bigint[];
    v_keys text[];
begin
    select a.* into v_agent from wakelog.agents a where a.id = v_agent_id;
    if v_agent.ordered_by is not null then
        -- In the order in which a claim locks the first of each line (wakelog.busy_keys).
        perform from wakelog.deliveries d
        where d.agent_id = v_agent_id and d.position = any (p_positions)
        order by d.position
        for update;
    end if;
    v_rows := array(
        select held.ctid
        from unnest(p_positions, p_attempts) as p (position, attempt)
        cross join lateral (
            select d.ctid from wakelog.deliveries d
            where d.agent_id = v_agent_id and d.position = p.position
              and d.attempt = p.attempt and d.worker = p_worker and d.available_at > v_now
            for update) held);
    with acked as (
        delete from wakelog.deliveries d where d.ctid = any (v_rows) returning d.*
    ),
    kept as (
        insert into wakelog.history (
            agent_id, position, attempts, stalled, worker, started_at, finished_at, outcome, failures)
        select k.agent_id, k.position, k.attempt, k.stalled, k.worker, k.claimed_at, v_now, 'completed',
               k.failures
        from acked k
        where v_agent.keeps_history
    )
    select array_agg(k.position), array_agg(k.key) filter (where k.key is not null) into v_acked, v_keys
    from acked k;
    if v_keys is not null then
        perform wakelog.step_forward(v_agent_id, v_keys);
    end if;

    if v_agent.capacity is not null then
        perform wakelog.free_slots(v_agent, v_acked);
    end if;
    if p_events <> '[]' then
        perform wakelog.emit(p_agent, (
            select coalesce(jsonb_agg(e.event order by e.ordinal), '[]')
            from jsonb_array_elements(p_events) with ordinality as e (event, ordinal)
            where (e.event ->> 'position')::bigint = any (v_acked)));
    end if;
    return query select unnest(v_acked);
end
$$;
