-- Begin to count transaction ids anew, after a restore into another cluster: give every event that is not
-- in the log its position, whatever its xid says, and take this cluster's snapshot as the last one.
-- Positions are data and stay. Appends wait meanwhile, so that none is half seen. Returns how many events
-- were added.
create or replace function wakelog.rebase() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now pg_snapshot;
    v_head bigint;
    v_at timestamptz;
    v_count bigint;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'wakelog.rebase() was called in a transaction that has already written'
            using errcode = 'WL005', hint = 'Call it in a transaction of its own.';
    end if;
    perform pg_advisory_xact_lock(wakelog.lock_space('sequencer'), 0);
    lock table wakelog.events in share mode;
    v_now := pg_current_snapshot();
    select s.head, greatest(s.sequenced_at, wakelog.log_clock()) into strict v_head, v_at
    from wakelog.sequencer s;

    insert into wakelog.types (type, first_position)
    select distinct e.type, v_head + 1 from wakelog.events e
    where not exists (select from wakelog.log l where l.seq = e.seq)
    on conflict (type) do nothing;

    insert into wakelog.agent_types (agent_id, type_id)
    select a.id, t.id from wakelog.types t join wakelog.agents a on '.' || t.type ~ a.type_regex
    where t.type not in (a.name || '.completed', a.name || '.failed')
    on conflict do nothing;

    with placed as (
        insert into wakelog.log (position, seq, type_id, sequenced_at)
        select v_head + row_number() over (order by e.seq), e.seq, t.id, v_at
        from wakelog.events e join wakelog.types t on t.type = e.type
        where not exists (select from wakelog.log l where l.seq = e.seq)
        returning position
    )
    update wakelog.sequencer s
    set head = v_head + (select count(*) from placed), snapshot = v_now, sequenced_at = v_at, run = s.run + 1,
        rebased_seq = coalesce((select max(e.seq) from wakelog.events e), 0),
        system_identifier = (select c.system_identifier from pg_control_system() c)
    returning s.head - v_head into v_count;
    return v_count;
end
$$;
