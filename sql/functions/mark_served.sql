-- Enter that a build serves, and another no longer: its schema now has the name that p_retired says.
create or replace function wakelog.mark_served(p_build integer, p_retired text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_projection wakelog.projections;
begin
    select p.* into strict v_projection from wakelog.projection_builds b
    join wakelog.projections p on p.id = b.projection_id where b.id = p_build;
    update wakelog.projection_builds b set state = 'retired', schema = p_retired
    where b.projection_id = v_projection.id and b.state = 'serving';
    -- What was begun of older versions is for nobody any more.
    update wakelog.projection_builds b set state = 'retired'
    where b.projection_id = v_projection.id and b.state = 'building'
      and b.version < (select n.version from wakelog.projection_builds n where n.id = p_build);
    update wakelog.projection_builds b
    set state = 'serving', schema = v_projection.schema, attended = false, served_at = wakelog.clock()
    where b.id = p_build;
    perform pg_notify('wakelog_projections', v_projection.name);
end
$$;
