-- Give a dead letter another round of attempts; its history goes with it. Returns whether there was one.
create or replace function wakelog.retry_dead(p_agent text, p_position bigint) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    with revived as (
        delete from wakelog.dead d
        where d.agent_id = wakelog.agent_id(p_agent) and d.position = p_position
        returning d.*
    )
    insert into wakelog.deliveries (
        agent_id, position, worker, attempt, stalled, available_at, claimed_at, first_claimed_at, failures)
    select r.agent_id, r.position, null, 0, 0, wakelog.clock(), r.died_at, r.first_claimed_at, r.failures
    from revived r
    on conflict (agent_id, position) do nothing;
    if not found then
        return false;
    end if;
    perform pg_notify('wakelog', 'ring');
    return true;
end
$$;
