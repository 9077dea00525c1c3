-- Have a build folded in up to p_parts parts, each its own events by the partition key. One that was split before stays
-- as it is; one that has begun, or has no key, is not split. Returns how many parts there are.
create or replace function wakelog.split_build(p_build integer, p_parts integer) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_point wakelog.checkpoints;
begin
    select c.* into strict v_point from wakelog.checkpoints c where c.build_id = p_build and c.part = 0 for update;
    if v_point.parts > 1 or v_point.position > 0 or p_parts < 2
       or (select b.partition_by from wakelog.projection_builds b where b.id = p_build) is null then
        return v_point.parts;
    end if;
    update wakelog.checkpoints c set parts = p_parts where c.build_id = p_build;
    insert into wakelog.checkpoints (build_id, part, parts)
    select p_build, n, p_parts from generate_series(1, p_parts - 1) n;
    return p_parts;
end
$$;
