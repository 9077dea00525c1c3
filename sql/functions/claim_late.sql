-- Take over deliveries that are due: retries, work given back, and work whose worker let its lease run out
-- or died. The last kind counts as stalled, and is given up when that happens too often. One in its last chance is handed
-- out alone, so that it is never given up for what another one of the same claim did to their worker.
--
-- Rows that are locked are taken by their place: joined again by their key, all of the agent's might be read.
create or replace function wakelog.claim_late(
    p_agent wakelog.agents, p_worker bigint, p_limit bigint, p_now timestamptz, p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_positions bigint[];
    v_rows tid[];
    v_chances constant integer := greatest(p_agent.max_stalled, 1);
    v_alone boolean;
begin
    if not exists (
        select from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.available_at <= p_now and (d.worker is null or d.lost)
    ) then
        return '{}'::bigint[];
    end if;
    perform wakelog.bury_stalled(p_agent, p_now);

    select d.stalled + (d.worker is not null)::integer >= v_chances into v_alone
    from wakelog.deliveries d
    where d.agent_id = p_agent.id and d.available_at <= p_now and (d.worker is null or d.lost)
    order by d.available_at, d.position
    limit 1
    for update skip locked;
    v_rows := array(
        select d.ctid from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.available_at <= p_now and (d.worker is null or d.lost)
          and (v_alone or d.stalled + (d.worker is not null)::integer < v_chances)
        order by d.available_at, d.position
        limit case when v_alone then 1 else p_limit end
        for update skip locked);
    with taken as (
        update wakelog.deliveries d
        set worker = p_worker,
            lost = false,
            attempt = d.attempt + 1,
            stalled = d.stalled + (d.worker is not null)::integer,
            failures = case when d.worker is null then d.failures else
                wakelog.add_failure(d.failures, d.attempt, d.worker, d.claimed_at, p_now, 'stalled',
                                    'the worker died or let its lease run out', null) end,
            claimed_at = p_now,
            available_at = p_now + p_lease
        where d.ctid = any (v_rows)
        returning d.position
    )
    select coalesce(array_agg(t.position order by t.position), '{}') into v_positions from taken t;
    return v_positions;
end
$$;
