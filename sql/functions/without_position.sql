-- The seqs of events that are committed and have no position yet, p_limit at most (null: all). Normally none for longer than
-- the doorkeeper takes.
create or replace function wakelog.without_position(p_limit integer default 10000) returns setof bigint
language sql stable
security definer
begin atomic
    select u.seq from wakelog.sequencer s
    cross join lateral wakelog.unsequenced(s.snapshot, pg_current_snapshot(), s.rebased_seq) u
    limit p_limit;
end;
