-- Make as many slots as an agent's capacity says. One that is bounded for the first time begins with what it has
-- unfinished already.
create or replace function wakelog.set_capacity(p_agent wakelog.agents) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first boolean := not exists (select from wakelog.slots s where s.agent_id = p_agent.id);
    v_cursor bigint;
begin
    if p_agent.capacity is null then
        delete from wakelog.slots s where s.agent_id = p_agent.id;
        return;
    end if;
    perform setval('wakelog.bounded', 1);
    insert into wakelog.slots (agent_id, slot)
    select p_agent.id, n from generate_series(1, p_agent.capacity) n
    on conflict (agent_id, slot) do nothing;
    perform wakelog.close_ranks(p_agent);

    if v_first then
        select c.position into strict v_cursor from wakelog.cursors c where c.agent_id = p_agent.id;
        with unfinished as (
            select u.position, row_number() over (order by u.position) as n from (
                select d.position from wakelog.deliveries d where d.agent_id = p_agent.id
                union all
                select wakelog.wanted_positions(
                    p_agent, v_cursor, (select s.head from wakelog.sequencer s), p_agent.capacity)
            ) u
        )
        update wakelog.slots s set seq = l.seq
        from unfinished u join wakelog.log l on l.position = u.position
        where s.agent_id = p_agent.id and s.slot = u.n;
    end if;
end
$$;
