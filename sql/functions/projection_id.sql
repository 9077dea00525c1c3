-- The id of a projection by its name; WL014 where there is none.
create or replace function wakelog.projection_id(p_name text) returns integer
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer;
begin
    select p.id into v_id from wakelog.projections p where p.name = p_name;
    if v_id is null then
        raise exception 'there is no projection "%"', p_name
            using errcode = 'WL014', hint = 'See: wakelog projection list';
    end if;
    return v_id;
end
$$;
