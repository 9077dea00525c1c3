-- Drop the tables of a build that does not serve, as the caller, and forget it. Refused where something elsewhere
-- depends on them.
create or replace function wakelog.drop_build(p_build integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema text;
    v_outside text;
begin
    select b.schema into v_schema from wakelog.projection_builds b where b.id = p_build;
    perform wakelog.forget_build(p_build);
    select string_agg(o.name, ', ') into v_outside from wakelog.outside_views(v_schema) o;
    if v_outside is not null then
        raise exception 'the tables in "%" cannot be dropped: % depends on them', v_schema, v_outside
            using errcode = 'WL006', hint = 'Drop that first.';
    end if;
    execute format('drop schema if exists %I cascade', v_schema);
end
$$;
