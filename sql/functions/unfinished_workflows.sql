-- The workflows of which something is in flight, given up, or not handed out yet; of the last kind those among the next
-- 10,000 events of each agent. What it costs goes by how much that is, not by the length of the log.
create or replace function wakelog.unfinished_workflows() returns setof text
language sql stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with position_of as (
        select d.position from wakelog.deliveries d
        union
        select x.position from wakelog.dead x
        union
        select w.position
        from wakelog.agents a
        join wakelog.cursors c on c.agent_id = a.id
        cross join lateral wakelog.wanted_positions(
            a, c.position, least(wakelog.head(), c.position + 100000), 10000) as w (position)
        where wakelog.has_fresh(a, c.position)
    )
    select distinct coalesce(e.correlation_id, e.id::text)
    from position_of p
    join wakelog.log l on l.position = p.position
    join wakelog.events e on e.seq = l.seq;
end;
