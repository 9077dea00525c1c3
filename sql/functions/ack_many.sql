-- Finish deliveries whose work is done, and append the events they answer with; returns the positions
-- finished. One that the worker no longer holds is left out, and so are its events.
--
-- Of many, rows are looked up one by one, by the whole key, and then taken by their place: given both at once, the
-- planner may read all rows of an agent instead, when it takes them to be few. One by itself, as of a handler with a
-- transaction of its own, is taken at once: that is half the time.
--
-- p_events as for wakelog.emit. All in the caller's transaction: effects made in it happen exactly once.
create or replace function wakelog.ack_many(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[], p_events jsonb default '[]'
) returns setof bigint
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
    v_agent wakelog.agents;
    v_now timestamptz := wakelog.clock();
    v_one wakelog.deliveries;
    v_rows tid[];
    v_acked bigint[];
    v_keys text[];
begin
    select a.* into v_agent from wakelog.agents a where a.name = p_agent;
    if not found then
        perform wakelog.agent_id(p_agent);  -- says so
    end if;
    if cardinality(p_positions) = 1 then
        delete from wakelog.deliveries d
        where d.agent_id = v_agent.id and d.position = p_positions[1]
          and d.attempt = p_attempts[1] and d.worker = p_worker and d.available_at > v_now
        returning d.* into v_one;
        if v_one.position is not null then
            v_acked := p_positions;
            v_keys := case when v_one.key is not null then array[v_one.key] end;
            if v_agent.keeps_history then
                insert into wakelog.history (
                    agent_id, position, attempts, stalled, worker, started_at, finished_at, outcome, failures)
                values (v_one.agent_id, v_one.position, v_one.attempt, v_one.stalled, v_one.worker,
                        v_one.claimed_at, v_now, 'completed', v_one.failures);
            end if;
        end if;
    else
        if v_agent.ordered_by is not null then
            -- In the order in which a claim locks the first of each line (wakelog.busy_keys).
            perform from (select a.position from unnest(p_positions) as a (position) order by a.position offset 0) p
            cross join lateral (
                select from wakelog.deliveries d
                where d.agent_id = v_agent.id and d.position = p.position
                for update) held;
        end if;
        v_rows := array(
            select held.ctid
            from unnest(p_positions, p_attempts) as p (position, attempt)
            cross join lateral (
                select d.ctid from wakelog.deliveries d
                where d.agent_id = v_agent.id and d.position = p.position
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
    end if;

    if v_keys is not null then
        perform wakelog.step_forward(v_agent.id, v_keys);
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
