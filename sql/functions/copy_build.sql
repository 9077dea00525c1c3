-- Enter another build of the same projection, version and fold, that a command attends: to take the place of what
-- serves, or aside, in a schema and up to a position of the caller's choice. Returns its id, for wakelog.make_tables.
create or replace function wakelog.copy_build(
    p_build integer, p_aside boolean default false, p_schema text default null, p_upto bigint default null
) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_build wakelog.projection_builds;
begin
    select b.* into strict v_build from wakelog.projection_builds b where b.id = p_build;
    v_build.state := case when p_aside then 'aside' else 'building' end;
    v_build.attended := true;
    v_build.schema := p_schema;
    v_build.upto := p_upto;
    return wakelog.new_build(v_build);
end
$$;
