-- A worker says that it is busy again and need not be rung.
create or replace function wakelog.wake_up(p_worker bigint) returns void
language sql volatile
security definer
begin atomic
    update wakelog.worker_sessions w set asleep = false where w.id = p_worker and w.asleep;
end;
