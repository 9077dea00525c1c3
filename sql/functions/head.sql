-- How far the log reaches. Asked of the log itself, which only grows: its last entry is found at once, whatever old
-- snapshots are open.
create or replace function wakelog.head() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    return coalesce((select max(l.position) from wakelog.log l), 0);
end
$$;
