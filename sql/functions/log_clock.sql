-- The time an event becomes part of the log. A turned clock (see wakelog.clock) counts only in a session of
-- those who own the log: what it says here stays for ever.
create or replace function wakelog.log_clock() returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'wakelog'),
                         'member') then wakelog.clock()
        else clock_timestamp()
    end;
end
$$;
