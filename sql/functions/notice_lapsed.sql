-- Mark the deliveries of an agent whose lease has run out as lost by their workers, so that they are claimed again.
-- Returns up to when that is done.
--
-- Each lease that ended is looked at once, not in each claim: those of finished work are dead rows of the index, and
-- where an old snapshot is open they stay.
create or replace function wakelog.notice_lapsed(
    p_agent_id integer, p_swept_at timestamptz, p_now timestamptz
) returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_from timestamptz := wakelog.unswept(p_swept_at, p_now);
    v_lapsed bigint[] := array(
        select d.position from wakelog.deliveries d
        where d.agent_id = p_agent_id and d.available_at > v_from and d.available_at <= p_now
          and d.worker is not null and not d.lost);
    v_marked bigint := 0;
begin
    if v_lapsed <> '{}' then
        -- One that is locked is being finished, or prolonged, at this moment: next time.
        with gone as (
            select d.position from wakelog.deliveries d
            where d.agent_id = p_agent_id and d.position = any (v_lapsed)
              and d.worker is not null and d.available_at <= p_now
            for update skip locked
        )
        update wakelog.deliveries d set lost = true
        from gone g where d.agent_id = p_agent_id and d.position = g.position;
        get diagnostics v_marked = row_count;
    end if;
    return case when v_marked < cardinality(v_lapsed) then p_swept_at else p_now end;
end
$$;
