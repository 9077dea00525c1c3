-- Make one checkpoint of those of all parts, once they are at the same position; false while they are not.
create or replace function wakelog.join_parts(p_build integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from wakelog.checkpoints c where c.build_id = p_build order by c.part for update;
    if (select min(c.position) <> max(c.position) or bool_or(c.error is not null)
        from wakelog.checkpoints c where c.build_id = p_build) then
        return false;
    end if;
    delete from wakelog.checkpoints c where c.build_id = p_build and c.part > 0;
    update wakelog.checkpoints c set parts = 1 where c.build_id = p_build;
    return true;
end
$$;
