-- A workflow, and those it was forked from, nearest first: below which position it shares the past of each, and what moment of
-- that one it began at, as a position and as a time.
create or replace function wakelog.ancestry(p_correlation text)
returns table (correlation_id text, generation integer, below bigint, reached bigint, as_of timestamptz)
language sql stable
begin atomic
    with recursive line (correlation_id, generation, below, reached, as_of) as (
        select p_correlation, 0, 9223372036854775807, 9223372036854775807, 'infinity'::timestamptz
        union all
        select f.parent, l.generation + 1, least(l.below, f.position), least(l.reached, f.reached), least(l.as_of, f.as_of)
        from line l
        -- Looked up, whoever this becomes a part of: there may be very many forks.
        cross join lateral (select k.* from wakelog.forks k where k.correlation_id = l.correlation_id offset 0) f
    )
    select l.correlation_id, l.generation, l.below, l.reached, l.as_of from line l;
end;
