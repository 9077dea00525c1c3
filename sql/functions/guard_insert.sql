-- Trigger, for each event inserted once there was a declared family or a bounded agent: what is declared must hold,
-- and the event takes a slot of every bounded agent that wants it. After the insert, so that a repeated idempotency
-- key takes none.
create or replace function wakelog.guard_insert() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
begin
    perform wakelog.check_family(new);
    for v_agent in
        select a.* from wakelog.agents a
        where a.capacity is not null and wakelog.is_for(a, new)
        order by a.id
    loop
        perform wakelog.take_slot(v_agent, new);
    end loop;
    return null;
end
$$;
