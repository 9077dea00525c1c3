-- Of deliveries just handed out, give up those whose places newer events have taken; returns the others.
create or replace function wakelog.bury_dropped(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
    v_dropped bigint[] := '{}'::bigint[];
begin
    for v_delivery in
        with gone as (
            delete from wakelog.dropped x using wakelog.log l
            where x.agent_id = p_agent.id and l.seq = x.seq and l.position = any (p_positions)
            returning l.position
        )
        select d.* from wakelog.deliveries d join gone g on g.position = d.position
        where d.agent_id = p_agent.id
        order by d.position
    loop
        v_delivery.attempt := v_delivery.attempt - 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, null, null, p_now, 'overflow',
            'more than ' || p_agent.capacity || ' events were unfinished, and newer ones took its place', null);
        perform wakelog.bury(p_agent, v_delivery, 'overflow');
        v_dropped := v_dropped || v_delivery.position;
    end loop;
    return array(
        select p.position from unnest(p_positions) with ordinality as p (position, ordinal)
        where p.position <> all (v_dropped) order by p.ordinal);
end
$$;
