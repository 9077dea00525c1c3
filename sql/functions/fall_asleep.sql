-- A worker says that it has looked, found nothing, and could take p_room more; false where it is no longer
-- registered. It must look once more after this has committed, and may then wait to be rung on its channel,
-- wakelog_worker_<id>.
create or replace function wakelog.fall_asleep(p_worker bigint, p_room integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update wakelog.worker_sessions w set asleep = true, room = p_room, seen_at = wakelog.clock()
    where w.id = p_worker;
    return found;
end
$$;
