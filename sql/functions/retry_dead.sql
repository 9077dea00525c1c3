-- Give a dead letter another round of attempts; its history goes with it. Returns whether there was one. Where the
-- agent works in order, it takes its place in line.
create or replace function wakelog.retry_dead(p_agent text, p_position bigint) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_agent wakelog.agents;
    v_key text;
begin
    select a.* into v_agent from wakelog.agents a where a.id = wakelog.agent_id(p_agent);
    if v_agent.ordered_by is not null then
        perform wakelog.lock_cursor(v_agent.id);
        select wakelog.order_key(v_agent.ordered_by, e) into v_key
        from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position = p_position;
    end if;
    with revived as (
        delete from wakelog.dead d
        where d.agent_id = v_agent.id and d.position = p_position
        returning d.*
    )
    insert into wakelog.deliveries (
        agent_id, position, key, worker, attempt, stalled, available_at, claimed_at, first_claimed_at,
        failures)
    select r.agent_id, r.position, v_key, null, 0, 0,
           case when v_key is not null and v_key = any (wakelog.busy_keys(v_agent.id, array[v_key])) then 'infinity'
                else greatest(wakelog.clock(), (
                    select e.deliver_after from wakelog.log l join wakelog.events e on e.seq = l.seq
                    where l.position = r.position)) end,
           r.died_at, r.first_claimed_at, r.failures
    from revived r
    -- After a rewind it may be there already: looked for first, since a conflict would wait for whoever changes it.
    where not exists (
        select from wakelog.deliveries d where d.agent_id = v_agent.id and d.position = p_position)
    on conflict (agent_id, position) do nothing;
    if not found then
        return false;
    end if;
    perform pg_notify('wakelog', 'ring');
    return true;
end
$$;
