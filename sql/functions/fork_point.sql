-- Where a fork is to begin, in a workflow: at one of its events, at a position (an event of it there, else that moment in
-- the log), or at a moment. shared_below is the first position that is not shared; reached and as_of are the moment whose
-- open work is delivered anew; event is the position of the event at the point, or of the last one before it.
create or replace function wakelog.fork_point(
    p_correlation text, p_event uuid, p_position bigint, p_at timestamptz,
    out at_event boolean, out event bigint, out shared_below bigint, out reached bigint, out as_of timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    v_first bigint;
begin
    if num_nonnulls(p_event, p_position, p_at) <> 1 then
        raise exception 'expected an event, a position or a time to fork from, found % of them',
            num_nonnulls(p_event, p_position, p_at) using errcode = 'WL006';
    end if;
    select min(w.position) into v_first from wakelog.workflow_events(p_correlation) w;
    if v_first is null then
        raise exception 'there is no workflow "%"', p_correlation
            using errcode = 'WL019', hint = 'See: wakelog workflow list';
    end if;
    event := coalesce(p_position, (
        select l.position from wakelog.events e join wakelog.log l on l.seq = e.seq where e.id = p_event));
    if not exists (select from wakelog.workflow_events(p_correlation, event) w where w.position = event) then
        event := null;
    end if;
    if p_event is not null and event is null then
        raise exception 'event % is not one of the workflow "%"', p_event, p_correlation
            using errcode = 'WL006', hint = 'See: wakelog workflow show';
    end if;

    at_event := event is not null;
    reached := coalesce(event, p_position, wakelog.position_at(p_at));
    as_of := case when p_at is not null then least(p_at, wakelog.clock()) else wakelog.moment_of(reached) end;
    shared_below := case when at_event then event else reached + 1 end;
    if reached < v_first then
        raise exception 'the workflow "%" began at position %, after the point to fork from', p_correlation, v_first
            using errcode = 'WL006', hint = 'See: wakelog workflow show';
    end if;
    if at_event then
        -- What was committed together was there together.
        select max(l.position) into reached
        from wakelog.log p
        cross join lateral (select v.* from wakelog.events v where v.seq = p.seq offset 0) f
        cross join lateral (
            select v.* from wakelog.events v
            where coalesce(v.correlation_id, v.id::text) = coalesce(f.correlation_id, f.id::text) and v.xid = f.xid offset 0) e
        cross join lateral (select o.* from wakelog.log o where o.seq = e.seq offset 0) l
        where p.position = event;
    else
        select max(w.position) into event from wakelog.workflow_events(p_correlation, reached) w;
    end if;
end
$$;
