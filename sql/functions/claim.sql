-- Hand up to p_limit deliveries of one agent to one worker, for the length of p_lease.
--
-- Late ones come first: retries that are due, and work whose lease ran out. They are taken with SKIP
-- LOCKED, so workers never wait for each other. Fresh ones come from the agent's cursor, in log order,
-- whose row is locked: one claim per agent at a time, each a few milliseconds.
--
-- Deliveries are looked up one by one, by the whole key (offset 0): of a table that is nearly empty and full of dead rows,
-- the planner would sooner read all that there is of that agent.
--
-- Safe to lose in a crash, so a worker may commit it asynchronously: cursor and leases go back together,
-- and the worker ids that fence them are never given out twice.
create or replace function wakelog.claim(
    p_agent text, p_worker bigint, p_limit integer default 1, p_lease interval default '30 seconds'
) returns setof wakelog.claimed
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
    v_cursor wakelog.cursors;
    v_now timestamptz;
    v_swept_at timestamptz;
    v_room bigint := p_limit;
    v_late bigint[] := '{}'::bigint[];
    v_fresh bigint[] := '{}'::bigint[];
    v_attempts integer[];
    v_stalled integer[];
    v_leases timestamptz[];
begin
    select a.* into v_agent from wakelog.agents a where a.name = p_agent;
    if not found then
        perform wakelog.agent_id(p_agent);  -- says so
    end if;
    perform wakelog.check_worker(p_worker);
    v_cursor := wakelog.lock_cursor(v_agent.id);
    if v_cursor.agent_id is null or v_agent.paused_at is not null then
        return;
    end if;
    v_now := wakelog.clock();  -- after the wait: what is due by now is due, and what is paced begins now
    v_swept_at := wakelog.notice_lapsed(v_agent.id, v_cursor.swept_at, v_now);
    -- Remembered with each move of the cursor, and where it does not move, once a second.
    if v_swept_at > v_cursor.swept_at + interval '1 second' then
        perform wakelog.move_cursor(v_agent.id, null, v_swept_at);
    end if;

    if v_agent.concurrency is not null then
        v_room := least(v_room, v_agent.concurrency - wakelog.running(v_agent.id, v_now));
    end if;
    if v_agent.rate_count is not null then
        v_room := least(v_room, wakelog.pace(v_agent, v_now));
    end if;
    if v_room > 0 then
        v_late := wakelog.claim_late(v_agent, p_worker, v_room, v_now, p_lease);
        v_room := v_room - cardinality(v_late);
    end if;
    if cardinality(v_late) = 1 then
        -- One in its last chance is alone (wakelog.claim_late).
        if exists (select from wakelog.deliveries d
                   where d.agent_id = v_agent.id and d.position = v_late[1]
                     and d.stalled >= greatest(v_agent.max_stalled, 1)) then
            v_room := 0;
        end if;
    end if;
    if v_room > 0 then
        if v_agent.ordered_by is not null then
            v_fresh := wakelog.claim_in_order(v_agent, v_cursor.position, p_worker, v_room, v_now, p_lease);
        elsif v_agent.dedupe_mode is not null then
            v_fresh := wakelog.claim_once(v_agent, v_cursor.position, p_worker, v_room, v_now, p_lease);
        else
            v_fresh := wakelog.claim_fresh(v_agent, v_cursor.position, p_worker, v_room, v_now, p_lease);
        end if;
        if v_swept_at < v_now then
            perform wakelog.move_cursor(v_agent.id, null, v_swept_at);
        end if;
    end if;
    if v_agent.capacity is not null then
        v_late := wakelog.bury_dropped(v_agent, v_late, v_now);
        v_fresh := wakelog.bury_dropped(v_agent, v_fresh, v_now);
    end if;
    v_fresh := wakelog.postpone(v_agent.id, v_fresh, v_now);
    if v_agent.expires is not null then
        v_late := wakelog.bury_expired(v_agent, v_late, v_now);
        v_fresh := wakelog.bury_expired(v_agent, v_fresh, v_now);
    end if;
    if v_agent.rate_count is not null then
        perform wakelog.keep_pace(v_agent, v_now, cardinality(v_late || v_fresh));
    end if;

    -- What was handed out for the first time needs no look: it is in its first attempt, and nobody else has it.
    if v_late <> '{}' then
        select array_agg(d.attempt order by p.ordinal), array_agg(d.stalled order by p.ordinal),
               array_agg(d.available_at order by p.ordinal)
        into v_attempts, v_stalled, v_leases
        from unnest(v_late) with ordinality as p (position, ordinal)
        cross join lateral (
            select h.* from wakelog.deliveries h where h.agent_id = v_agent.id and h.position = p.position offset 0) d;
    end if;

    return query
    select d.position, d.attempt, d.stalled, d.lease_until, v_agent.timeout, l.sequenced_at,
           e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           coalesce(e.correlation_id, e.id::text), e.causation_id, e.idempotency_key, e.schema_version,
           e.occurred_at, e.recorded_at
    from unnest(
             v_late || v_fresh,
             v_attempts || array_fill(1, array[cardinality(v_fresh)]),
             v_stalled || array_fill(0, array[cardinality(v_fresh)]),
             v_leases || array_fill(v_now + p_lease, array[cardinality(v_fresh)])
         ) with ordinality as d (position, attempt, stalled, lease_until, ordinal)
    join wakelog.log l on l.position = d.position
    join wakelog.events e on e.seq = l.seq
    order by d.ordinal;
end
$$;
