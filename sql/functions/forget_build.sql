-- Forget a build that does not serve, but for its tables (wakelog.drop_build drops those too).
create or replace function wakelog.forget_build(p_build integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from wakelog.projection_builds b where b.id = p_build and b.state <> 'serving';
    if not found then
        raise exception 'build % serves readers, or is gone: expected another one', p_build using errcode = 'WL006';
    end if;
end
$$;
