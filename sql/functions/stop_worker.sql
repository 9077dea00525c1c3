-- Take a worker off the list. What it still holds may be claimed by others at once, and counts as stalled:
-- a worker that stops in order releases its work first.
create or replace function wakelog.stop_worker(p_worker bigint) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update wakelog.deliveries d set available_at = least(d.available_at, wakelog.clock())
    where d.worker = p_worker;
    delete from wakelog.worker_sessions w where w.id = p_worker;
    perform pg_advisory_unlock(wakelog.lock_space('worker'), l.objid::integer)
    from pg_locks l
    where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted
      and l.classid::integer = wakelog.lock_space('worker') and l.objid::bigint = p_worker;
end
$$;
