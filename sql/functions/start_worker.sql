-- Register a worker and return its id, which fences everything it does.
--
-- p_locked: this session holds the worker's advisory lock until it ends or stop_worker is called, so the
-- worker's death is noticed at once. Without it (a script with a connection per statement, a pooler in
-- between) only leases tell.
create or replace function wakelog.start_worker(
    p_name text, p_agents text[], p_locked boolean default true
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := nextval('wakelog.worker_ids');
begin
    perform wakelog.commit_durably();
    if p_locked then
        perform pg_advisory_lock(wakelog.lock_space('worker'), v_id::integer);
    end if;
    insert into wakelog.worker_sessions (id, name, agents, locked, pid)
    values (v_id, p_name, p_agents, p_locked, case when p_locked then pg_backend_pid() end);
    return v_id;
end
$$;
