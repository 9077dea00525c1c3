-- The finished steps of one delivery. Where the event is a copy in a fork, those of its original's are among them that
-- had finished by the moment of the fork: they are not done again.
create or replace function wakelog.steps_of(p_agent_id integer, p_position bigint)
returns table (name text, result jsonb, finished_at timestamptz, inherited boolean)
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with recursive line (seq, "position", as_of, generation) as (
        select l.seq, l.position, 'infinity'::timestamptz, 0 from wakelog.log l where l.position = p_position
        union all
        select c.original_seq, l.position, least(n.as_of, f.as_of), n.generation + 1
        from line n
        join wakelog.copies c on c.seq = n.seq
        join wakelog.forks f on f.correlation_id = c.correlation_id
        join wakelog.log l on l.seq = c.original_seq
    )
    select distinct on (s.name) s.name, s.result, s.finished_at, n.generation > 0
    from line n
    join wakelog.steps s on s.agent_id = p_agent_id and s.position = n.position and s.finished_at <= n.as_of
    order by s.name, n.generation;
end;
