-- Of deliveries just handed out, give up those whose places newer events have taken; returns the others.
create or replace function wakelog.bury_dropped(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language sql volatile
begin atomic
    with gone as (
        delete from wakelog.dropped x using wakelog.log l
        where x.agent_id = p_agent.id and l.seq = x.seq and l.position = any (p_positions)
        returning l.position
    )
    select wakelog.bury_untried(
        p_agent, p_positions, array(select g.position from gone g),
        'overflow', 'more than ' || p_agent.capacity || ' events were unfinished, and newer ones took its place',
        p_now);
end;
