-- Refuse what names no key of an event (wakelog.order_key); p_what says what the key is for.
create or replace function wakelog.check_key(p_agent_name text, p_what text, p_key text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_key !~ '^(stream|correlation|source|(metadata|payload)(\.[^.]+)+)$' then
        raise exception 'agent "%" %: expected stream, correlation, source, metadata.<path> or payload.<path>, found "%"',
            p_agent_name, p_what, p_key using errcode = 'WL006';
    end if;
end
$$;
