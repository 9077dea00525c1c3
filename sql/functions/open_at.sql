-- The events of a workflow that were open at a point (wakelog.fork_point), with the agents that had not finished them
-- then. The event at the point itself, those committed together with it, and what came into the log between them, are
-- open for everybody they are for: null where that is whoever wants them.
create or replace function wakelog.open_at(
    p_correlation text, p_at_event boolean, p_event bigint, p_reached bigint, p_as_of timestamptz
) returns table ("position" bigint, agents text[])
language sql stable
begin atomic
    with point as materialized (
        select e.xid, coalesce(e.correlation_id, e.id::text) as correlation_id
        from wakelog.log l join wakelog.events e on e.seq = l.seq
        where p_at_event and l.position = p_event
    ),
    entering as materialized (
        select l.position, c.agents
        from point p
        join wakelog.events e on coalesce(e.correlation_id, e.id::text) = p.correlation_id
        join wakelog.log l on l.seq = e.seq and (e.xid = p.xid or l.position > p_event and l.position <= p_reached)
        left join wakelog.copies c on c.seq = e.seq
    )
    select n.position, n.agents from entering n
    union all
    select d.position, array_agg(d.agent order by d.agent)
    from wakelog.workflow_as_of(p_correlation, p_reached, p_as_of) d
    where d.state in ('running', 'waiting')
      and (not p_at_event or d.position <= p_event)
      and d.position not in (select n.position from entering n)
    group by d.position;
end;
