-- An agent's cursor, locked until this transaction ends; null where there is none. Read from its newest version on.
create or replace function wakelog.lock_cursor(p_agent_id integer) returns wakelog.cursors
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_cursor wakelog.cursors;
begin
    select c.* into v_cursor from wakelog.cursors c
    where c.agent_id = p_agent_id
    order by c.moved desc limit 1
    for update;
    return v_cursor;
end
$$;
