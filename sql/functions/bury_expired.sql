-- Of deliveries just handed out, give up those whose event has become too old; returns the others. The age of one
-- that was to be delivered later counts from then.
create or replace function wakelog.bury_expired(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
    v_expired bigint[] := '{}'::bigint[];
begin
    for v_delivery in
        select d.* from wakelog.deliveries d join wakelog.log l on l.position = d.position
        join wakelog.events e on e.seq = l.seq
        where d.agent_id = p_agent.id and d.position = any (p_positions)
          and greatest(l.sequenced_at, e.deliver_after) < p_now - p_agent.expires
        order by d.position
    loop
        v_delivery.attempt := v_delivery.attempt - 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, null, null, p_now, 'expired',
            'the event was older than ' || p_agent.expires, null);
        perform wakelog.bury(p_agent, v_delivery, 'expired');
        v_expired := v_expired || v_delivery.position;
    end loop;
    return array(
        select p.position from unnest(p_positions) with ordinality as p (position, ordinal)
        where p.position <> all (v_expired) order by p.ordinal);
end
$$;
