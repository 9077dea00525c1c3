-- How far the log reaches.
create or replace function wakelog.head() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    return (select s.head from wakelog.sequencer s order by s.run desc limit 1);
end
$$;
