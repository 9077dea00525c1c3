-- The events of a workflow that were open at a point (wakelog.fork_point), with the agents that had not finished them
-- then. The event at the point itself, those committed together with it, and what came into the log between them, are
-- open for everybody they are for: null where that is whoever wants them.
create or replace function wakelog.open_at(
    p_correlation text, p_at_event boolean, p_event bigint, p_reached bigint, p_as_of timestamptz
) returns table ("position" bigint, agents text[])
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with point as materialized (
        select e.xid, coalesce(e.correlation_id, e.id::text) as correlation_id
        from wakelog.log l cross join lateral (select v.* from wakelog.events v where v.seq = l.seq offset 0) e
        where p_at_event and l.position = p_event
    ),
    entering as materialized (
        select l.position, c.agents
        from point p
        cross join lateral (
            select v.* from wakelog.events v where coalesce(v.correlation_id, v.id::text) = p.correlation_id offset 0) e
        cross join lateral (select o.* from wakelog.log o where o.seq = e.seq offset 0) l
        left join wakelog.copies c on c.seq = e.seq
        where e.xid = p.xid or l.position > p_event and l.position <= p_reached
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
