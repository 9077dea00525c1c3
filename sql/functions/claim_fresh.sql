-- Hand out the next events after the agent's cursor, and move it. Looks at no more than 100,000
-- positions at a time, so that an agent that wants almost nothing holds nobody up for long.
create or replace function wakelog.claim_fresh(
    p_agent wakelog.agents, p_cursor bigint, p_worker bigint, p_limit bigint, p_now timestamptz,
    p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_head bigint := wakelog.head();  -- first: what is asked afterwards may see more of the log, never less
    v_upto bigint;
    v_positions bigint[] := '{}'::bigint[];
begin
    if v_head <= p_cursor then
        return '{}'::bigint[];
    end if;
    -- An agent none of whose types has moved goes to the head without reading anything.
    v_upto := least(v_head, p_cursor + 100000);
    if v_upto = v_head or wakelog.has_fresh(p_agent, p_cursor) then
        v_positions := array(select wakelog.wanted_positions(p_agent, p_cursor, v_upto, p_limit));
    else
        v_upto := v_head;
    end if;

    perform wakelog.move_cursor(
        p_agent.id,
        case when cardinality(v_positions) = p_limit then v_positions[cardinality(v_positions)] else v_upto end,
        p_now);

    -- After a rewind the event may still be with a worker, or waiting for a retry: it is not handed out twice. To look
    -- once for all is half the time. While the cursor is locked, only dead letters may become deliveries here.
    if exists (select from wakelog.deliveries d
               where d.agent_id = p_agent.id
                 and d.position between v_positions[1] and v_positions[cardinality(v_positions)])
       or exists (select from wakelog.dead d
                  where d.agent_id = p_agent.id
                    and d.position between v_positions[1] and v_positions[cardinality(v_positions)])
    then
        with handed as (
            insert into wakelog.deliveries (
                agent_id, position, worker, attempt, available_at, claimed_at, first_claimed_at)
            select p_agent.id, p.position, p_worker, 1, p_now + p_lease, p_now, p_now
            from unnest(v_positions) as p (position)
            on conflict (agent_id, position) do nothing
            returning position
        )
        select coalesce(array_agg(h.position order by h.position), '{}') into v_positions from handed h;
    else
        insert into wakelog.deliveries (
            agent_id, position, worker, attempt, available_at, claimed_at, first_claimed_at)
        select p_agent.id, p.position, p_worker, 1, p_now + p_lease, p_now, p_now
        from unnest(v_positions) as p (position);
    end if;
    return v_positions;
end
$$;
