-- The id of an agent by its name; WL003 where there is none.
create or replace function wakelog.agent_id(p_name text) returns integer
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer;
begin
    select a.id into v_id from wakelog.agents a where a.name = p_name;
    if v_id is null then
        raise exception 'there is no agent "%"', p_name
            using errcode = 'WL003', hint = 'See: wakelog agents list';
    end if;
    return v_id;
end
$$;
