-- Give every event that has become visible since the last run its position; return how many, or null when
-- another session is at it.
--
-- Two snapshots are compared, the last run's and this one's. New are the events visible now whose
-- transaction either began after the last snapshot (xid >= its xmax) or was running then (in its xip).
-- Rollbacks, slow transactions and foreign ones need no special case, and nothing waits for anybody.
--
-- The snapshot is taken once, after the lock and before this transaction has an id of its own: later
-- statements see more, so each row is tested against that one value; and events this transaction itself
-- inserts afterwards, like any that began later, have an xid at or above its xmax.
--
-- Read once and held are a few events of known types. Of more than those, or with a type that is new, the events are read
-- again as they are placed.
--
-- Plans are fixed on the index, whatever the statistics say after a bulk load; their costs then look so high
-- that JIT would compile each for 200 ms.
--
-- Positions never change once seen, so they are committed durably, whatever the session says of itself. Those
-- who follow the log hear of it on the channel wakelog_log.
create or replace function wakelog.sequence() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now pg_snapshot;
    v_last wakelog.sequencer;
    v_at timestamptz;
    v_seqs bigint[];
    v_types integer[];
    v_few constant bigint := 10000;
    v_count bigint;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'wakelog.sequence() was called in a transaction that has already written'
            using errcode = 'WL005', hint = 'Call it in a transaction of its own.';
    end if;
    if not pg_try_advisory_xact_lock(wakelog.lock_space('sequencer'), 0) then
        return null;
    end if;
    v_now := pg_current_snapshot();
    select s.* into strict v_last from wakelog.sequencer s order by s.run desc limit 1;
    perform wakelog.check_snapshot(v_last, v_now);

    select array_agg(u.seq order by u.seq), array_agg(t.id order by u.seq) into v_seqs, v_types
    from (select n.seq, n.type from wakelog.unsequenced(v_last.snapshot, v_now, v_last.rebased_seq) n
          limit v_few) u
    left join wakelog.types t on t.type = u.type;

    if v_seqs is null then
        -- A transaction that began since then and goes on may be loading many events: remembered as running,
        -- it is no longer looked through each time. Losing this in a crash would do no harm.
        if exists (select from pg_snapshot_xip(v_now) as x (id)
                   where x.id >= pg_snapshot_xmax(v_last.snapshot)) then
            perform set_config('synchronous_commit', 'off', true);
            update wakelog.sequencer s set snapshot = v_now, run = s.run + 1 where s.run = v_last.run;
        end if;
        return 0;
    end if;
    perform wakelog.commit_durably();
    v_at := greatest(v_last.sequenced_at, wakelog.log_clock());
    if cardinality(v_seqs) < v_few and array_position(v_types, null) is null then
        insert into wakelog.log (position, seq, type_id, sequenced_at)
        select v_last.head + n.place, n.seq, n.type_id, v_at
        from unnest(v_seqs, v_types) with ordinality as n (seq, type_id, place);
    else
        perform wakelog.learn_types(v_last, v_now);
        insert into wakelog.log (position, seq, type_id, sequenced_at)
        select v_last.head + row_number() over (order by u.seq), u.seq, t.id, v_at
        from wakelog.unsequenced(v_last.snapshot, v_now, v_last.rebased_seq) u
        join wakelog.types t on t.type = u.type;
    end if;
    get diagnostics v_count = row_count;
    update wakelog.sequencer s
    set head = s.head + v_count, snapshot = v_now, sequenced_at = v_at, run = s.run + 1
    where s.run = v_last.run;
    perform pg_notify('wakelog_log', '');
    return v_count;
end
$$;
