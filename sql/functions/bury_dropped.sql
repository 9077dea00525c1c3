-- Of deliveries just handed out, give up those whose places newer events have taken; returns the others.
create or replace function wakelog.bury_dropped(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone bigint[] := wakelog.take_dropped(
        p_agent.id, array(select l.seq from wakelog.log l where l.position = any (p_positions)));
begin
    if v_gone = '{}' then
        return p_positions;
    end if;
    return wakelog.bury_untried(
        p_agent, p_positions, array(select l.position from wakelog.log l where l.seq = any (v_gone)),
        'overflow', 'more than ' || p_agent.capacity || ' events were unfinished, and newer ones took its place', p_now);
end
$$;
