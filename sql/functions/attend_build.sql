-- Have a build folded by a command (p_attended) or by workers; those who look after it look again.
create or replace function wakelog.attend_build(p_build integer, p_attended boolean) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update wakelog.projection_builds b set attended = p_attended where b.id = p_build;
    perform pg_notify('wakelog_projections', '');
end
$$;
