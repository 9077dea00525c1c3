-- Let a projection go on that was paused, or that stopped over an event: with that event, or, p_skip, after it.
-- Returns how many builds, or parts of them, had stopped.
create or replace function wakelog.resume_projection(p_name text, p_skip boolean default false) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer := wakelog.projection_id(p_name);
    v_count bigint;
begin
    update wakelog.projections p set paused_at = null where p.id = v_id;
    if p_skip then
        insert into wakelog.projection_skips (build_id, seq, error, skipped_at)
        select c.build_id, c.failed_seq, c.error, wakelog.clock()
        from wakelog.checkpoints c join wakelog.projection_builds b on b.id = c.build_id
        where b.projection_id = v_id and c.error is not null
        on conflict (build_id, seq) do nothing;
    end if;
    update wakelog.checkpoints c
    set failed_seq = null, error = null, failed_at = null,
        position = case when p_skip then (select l.position from wakelog.log l where l.seq = c.failed_seq)
                        else c.position end
    from wakelog.projection_builds b, wakelog.projections p
    where b.id = c.build_id and b.projection_id = v_id and p.id = v_id and c.error is not null and p.mode = 'async';
    get diagnostics v_count = row_count;
    -- Who folds one that stopped is to go on, and of one that was paused somebody is to begin.
    perform pg_notify('wakelog_log', ''), pg_notify('wakelog_projections', p_name);
    return v_count;
end
$$;
