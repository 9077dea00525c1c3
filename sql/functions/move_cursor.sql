-- Let a cursor that this transaction has locked stand at p_position; returns it as it is then.
create or replace function wakelog.move_cursor(p_cursor wakelog.cursors, p_position bigint) returns wakelog.cursors
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_cursor wakelog.cursors;
begin
    update wakelog.cursors c
    set position = p_position, moved = c.moved + 1, swept_at = p_cursor.swept_at
    where c.agent_id = p_cursor.agent_id and c.moved = p_cursor.moved
    returning c.* into strict v_cursor;
    return v_cursor;
end
$$;
