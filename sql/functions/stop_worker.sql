-- Take a worker off the list. What it still holds may be claimed by others at once, and counts as stalled:
-- a worker that stops in order releases its work first.
create or replace function wakelog.stop_worker(p_worker bigint) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A row that is locked is being finished at this moment; waiting for it here could be a deadlock.
    with mine as (
        select d.agent_id, d.position from wakelog.deliveries d where d.worker = p_worker
        for update skip locked
    )
    update wakelog.deliveries d set available_at = least(d.available_at, wakelog.clock()), lost = true
    from mine m where d.agent_id = m.agent_id and d.position = m.position;
    if found then
        perform pg_notify('wakelog', 'ring');
    end if;
    delete from wakelog.worker_sessions w where w.id = p_worker;
    perform pg_advisory_unlock(wakelog.lock_space('worker'), l.objid::integer)
    from pg_locks l
    where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted
      and l.classid::integer = wakelog.lock_space('worker') and l.objid::bigint = p_worker;
end
$$;
