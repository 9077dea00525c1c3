-- An event as the session may see it: who may only insert does not learn, by guessing a key, what others wrote.
create or replace function wakelog.as_may_be_read(p_event wakelog.events) returns wakelog.events
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not has_table_privilege(session_user, 'wakelog.events', 'select') then
        p_event.payload := null;
        p_event.metadata := null;
    end if;
    return p_event;
end
$$;
