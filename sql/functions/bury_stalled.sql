-- Give up the deliveries over which workers have died too often. Without sorting, the index of those that are lost is the
-- way that is left: a claim does not read all that is due for it.
create or replace function wakelog.bury_stalled(p_agent wakelog.agents, p_now timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_sort = off
as $$
declare
    v_delivery wakelog.deliveries;
begin
    for v_delivery in
        select d.* from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.available_at <= p_now
          and d.lost and d.worker is not null and d.stalled >= p_agent.max_stalled
        order by d.stalled, d.position
        for update skip locked
    loop
        v_delivery.stalled := v_delivery.stalled + 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, v_delivery.worker, v_delivery.claimed_at, p_now,
            'stalled', 'the worker died or let its lease run out', null);
        perform wakelog.bury(p_agent, v_delivery, 'stalled');
    end loop;
end
$$;
