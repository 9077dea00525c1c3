-- Forget a projection and what is known of its builds, but for their tables; returns the schemas these are in.
create or replace function wakelog.forget_projection(p_name text) returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer := wakelog.projection_id(p_name);
begin
    perform from wakelog.checkpoints c join wakelog.projection_builds b on b.id = c.build_id
    where b.projection_id = v_id order by c.build_id, c.part for update of c;
    return query select b.schema from wakelog.projection_builds b where b.projection_id = v_id;
    delete from wakelog.projections p where p.id = v_id;
    perform pg_notify('wakelog_projections', p_name);
end
$$;
