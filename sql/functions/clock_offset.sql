-- How far the clock is turned, for tests: by the setting wakelog.clock_offset, where a session of those who own the log
-- made it, or alter database did, for everyone. What anybody else sets counts for nothing.
create or replace function wakelog.clock_offset() returns interval
language plpgsql volatile parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_offset text := current_setting('wakelog.clock_offset', true);
begin
    if pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'wakelog'), 'member') then
        return v_offset::interval;
    end if;
    -- What this session says for itself may hide what the database says.
    select substr(c.entry, length('wakelog.clock_offset=') + 1) into v_offset
    from pg_db_role_setting s cross join lateral unnest(s.setconfig) as c (entry)
    where s.setdatabase = (select d.oid from pg_database d where d.datname = current_database()) and s.setrole = 0
      and starts_with(c.entry, 'wakelog.clock_offset=');
    return coalesce(nullif(v_offset, '')::interval, '0');
end
$$;
