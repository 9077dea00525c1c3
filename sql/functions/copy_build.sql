-- Enter another build of the same projection, version and fold, that a command attends: to take the place of what
-- serves, or aside, in a schema and up to a position of the caller's choice. Returns its id, for wakelog.make_tables.
-- Only of what serves: WL006 where another has taken its place, or does so at this moment, so that no older version
-- is begun after a newer one has come.
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
    -- Whoever takes a place holds this row until it has (wakelog.hold_serving).
    perform from wakelog.projections p
    where p.id = (select b.projection_id from wakelog.projection_builds b where b.id = p_build) for share;
    select b.* into v_build from wakelog.projection_builds b where b.id = p_build and b.state = 'serving';
    if not found then
        raise exception 'expected build % to serve, found that another has taken its place', p_build
            using errcode = 'WL006', hint = 'Again, with the code of the version that serves: wakelog projection list';
    end if;
    v_build.state := case when p_aside then 'aside' else 'building' end;
    v_build.attended := true;
    v_build.schema := p_schema;
    v_build.upto := p_upto;
    return wakelog.new_build(v_build);
end
$$;
