-- How a workflow stands: running while something of it is with a worker, waiting while something is still to be done,
-- else failed where there are dead letters, else done. Its own events only; no row where there are none.
create or replace function wakelog.workflow_summary(p_correlation text)
returns table (
    correlation_id text, state text, events bigint, first_position bigint, first_type text, began_at timestamptz,
    last_position bigint, last_type text, last_at timestamptz, duration interval, running bigint, waiting bigint, dead bigint,
    parent text
)
language sql stable rows 1
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with event as materialized (
        select l.position, l.sequenced_at, e.seq, e.type
        from wakelog.events e join wakelog.log l on l.seq = e.seq
        where coalesce(e.correlation_id, e.id::text) = p_correlation
    ),
    extent as (
        select count(*) as events, min(e.position) as first, max(e.position) as last from event e
    ),
    delivery as (
        select count(*) filter (where d.worker is not null) as running, count(*) filter (where d.worker is null) as waiting
        from event e cross join wakelog.agents a
        join wakelog.deliveries d on d.agent_id = a.id and d.position = e.position
    ),
    unclaimed as (
        select count(*) as waiting
        from extent x
        join wakelog.cursors c on c.position < x.last
        join wakelog.agents a on a.id = c.agent_id
        join event e on e.position > c.position
        join wakelog.events v on v.seq = e.seq
        where wakelog.is_for(a, v)
          and not exists (select from wakelog.deliveries d where d.agent_id = a.id and d.position = e.position)
    ),
    dead as (
        select count(*) as letters
        from event e cross join wakelog.agents a join wakelog.dead x on x.agent_id = a.id and x.position = e.position
    )
    select p_correlation,
           case when d.running > 0 then 'running'
                when d.waiting + u.waiting > 0 then 'waiting'
                when g.letters > 0 then 'failed'
                else 'done' end,
           x.events, x.first, f.type, f.sequenced_at, x.last, n.type, n.sequenced_at, n.sequenced_at - f.sequenced_at,
           d.running, d.waiting + u.waiting, g.letters,
           (select k.parent from wakelog.forks k where k.correlation_id = p_correlation)
    from extent x
    join event f on f.position = x.first
    join event n on n.position = x.last
    cross join delivery d cross join unclaimed u cross join dead g;
end;
