-- Record that a build cannot fold the event at p_position, with everything before it done: it stops there (true), or
-- goes on after it (false), where its projection is to skip such events, or this one was skipped in the same version.
create or replace function wakelog.fail_projection(
    p_build integer, p_part integer, p_position bigint, p_error text
) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seq bigint;
begin
    select l.seq into strict v_seq from wakelog.log l where l.position = p_position;
    perform from wakelog.checkpoints c
    where c.build_id = p_build and c.part = p_part and c.position = p_position - 1 for update;
    if not found then
        raise exception 'build % is no longer right before position %', p_build, p_position using errcode = 'WL013';
    end if;
    if exists (select from wakelog.projection_builds b join wakelog.projections p on p.id = b.projection_id
               where b.id = p_build
                 and (p.on_error = 'skip'
                      or exists (select from wakelog.projection_builds o
                                 join wakelog.projection_skips k on k.build_id = o.id and k.seq = v_seq
                                 where o.projection_id = b.projection_id and o.version = b.version))) then
        insert into wakelog.projection_skips (build_id, seq, error, skipped_at)
        values (p_build, v_seq, p_error, wakelog.clock())
        on conflict (build_id, seq) do update set error = excluded.error, skipped_at = excluded.skipped_at;
        update wakelog.checkpoints c set position = p_position, moved_at = wakelog.clock()
        where c.build_id = p_build and c.part = p_part;
        return false;
    end if;
    update wakelog.checkpoints c set failed_seq = v_seq, error = p_error, failed_at = wakelog.clock()
    where c.build_id = p_build and c.part = p_part;
    return true;
end
$$;
