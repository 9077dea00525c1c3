-- Let a dead letter rest: it leaves the list and stays in the history. Returns whether there was one.
create or replace function wakelog.discard_dead(p_agent text, p_position bigint) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
    with discarded as (
        delete from wakelog.dead d
        where d.agent_id = wakelog.agent_id(p_agent) and d.position = p_position
        returning d.*
    )
    insert into wakelog.history (
        agent_id, position, attempts, stalled, started_at, finished_at, outcome, failures)
    select d.agent_id, d.position, d.attempts, d.stalled, d.first_claimed_at, wakelog.clock(), 'discarded',
           d.failures
    from discarded d;
    return found;
end
$$;
