-- Find the workers that are dead, and let their deliveries be claimed by others at once. Returns how many.
--
-- Dead is a worker whose lock can be had; one that never had a lock, when it has given no sign of life for
-- an hour and holds nothing (its leases end by themselves).
create or replace function wakelog.reap_workers() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_dead bigint[];
begin
    select array_agg(w.id) into v_dead from wakelog.worker_sessions w
    where w.pid is distinct from pg_backend_pid() and case
        when w.locked then pg_try_advisory_xact_lock(wakelog.lock_space('worker'), w.id::integer)
        else w.seen_at < wakelog.clock() - interval '1 hour'
             and not exists (select from wakelog.deliveries d where d.worker = w.id)
    end;
    if v_dead is null then
        return 0;
    end if;
    -- A row that is locked is being finished at this moment; waiting for it here could be a deadlock. Its
    -- worker stays for the next round, in case it is not finished after all.
    with theirs as (
        select d.agent_id, d.position from wakelog.deliveries d
        where d.worker = any (v_dead) and d.available_at > wakelog.clock()
        for update skip locked
    )
    update wakelog.deliveries d set available_at = wakelog.clock(), lost = true
    from theirs t where d.agent_id = t.agent_id and d.position = t.position;
    with gone as (
        select w.id from wakelog.worker_sessions w
        where w.id = any (v_dead)
          and not exists (select from wakelog.deliveries d
                          where d.worker = w.id and d.available_at > wakelog.clock())
        order by w.id
        for update
    )
    delete from wakelog.worker_sessions w using gone g where w.id = g.id;
    return cardinality(v_dead);
end
$$;
