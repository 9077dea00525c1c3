-- Let one transaction at a time give out versions of a stream.
--
-- A lock for each stream, so that those who append to different ones never meet. A transaction that has given out
-- thousands of versions would fill the lock table: from there on it holds one lock that stands for all streams,
-- of which everybody else holds a share, and others who append to streams wait for it to end.
create or replace function wakelog.lock_stream(p_stream text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_taken integer := coalesce(nullif(current_setting('wakelog.streams_locked', true), '')::integer, 0);
begin
    if v_taken > 4000 then
        return;
    end if;
    if v_taken = 4000 then
        perform pg_advisory_xact_lock(wakelog.lock_space('streams'), 0);
    else
        perform pg_advisory_xact_lock(wakelog.lock_space('stream'), hashtext(p_stream));
        perform pg_advisory_xact_lock_shared(wakelog.lock_space('streams'), 0);
    end if;
    perform set_config('wakelog.streams_locked', (v_taken + 1)::text, true);
end
$$;
