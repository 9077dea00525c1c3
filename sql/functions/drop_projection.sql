-- Drop all tables of a projection, as the caller, and forget it. The events stay, so it can be made again. Refused
-- where something elsewhere depends on its tables.
create or replace function wakelog.drop_projection(p_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer := wakelog.projection_id(p_name);
    v_schema text;
    v_outside text;
begin
    if exists (select from wakelog.projections p where p.id = v_id and p.mode = 'inline') then
        execute format('drop trigger if exists %I on wakelog.events', 'projection_' || v_id);
    end if;
    for v_schema in select wakelog.forget_projection(p_name) loop
        select string_agg(o.name, ', ') into v_outside from wakelog.outside_views(v_schema) o;
        if v_outside is not null then
            raise exception 'projection "%" cannot be dropped: % depends on its tables', p_name, v_outside
                using errcode = 'WL006', hint = 'Drop that first.';
        end if;
        execute format('drop schema if exists %I cascade', v_schema);
    end loop;
end
$$;
