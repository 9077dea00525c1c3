-- Whether a worker is known to live: it holds its lock, or has given a sign of life within a minute.
create or replace function wakelog.worker_alive(p_worker wakelog.worker_sessions) returns boolean
language sql stable
security definer
begin atomic
    select case
        when p_worker.locked then exists (
            select from pg_locks l
            where l.locktype = 'advisory' and l.granted
              and l.database = (select d.oid from pg_database d where d.datname = current_database())
              and l.classid::integer = wakelog.lock_space('worker') and l.objid::bigint = p_worker.id)
        else p_worker.seen_at > wakelog.clock() - interval '1 minute'
    end;
end;
