-- Let an agent's cursor, which this transaction has locked, stand at p_position; null: where it stands. Leases that
-- ended up to p_swept_at have been noticed; null: no more than before.
create or replace function wakelog.move_cursor(p_agent_id integer, p_position bigint, p_swept_at timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    update wakelog.cursors c
    set position = coalesce(p_position, c.position), swept_at = coalesce(p_swept_at, c.swept_at), moved = c.moved + 1
    where c.agent_id = p_agent_id
      and c.moved = (select n.moved from wakelog.cursors n where n.agent_id = p_agent_id
                     order by n.moved desc limit 1);
end
$$;
