-- Refuse a worker that is not, or no longer, registered: it was found dead and must start anew.
create or replace function wakelog.check_worker(p_worker bigint) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from wakelog.worker_sessions w where w.id = p_worker) then
        raise exception 'worker % is not registered', p_worker
            using errcode = 'WL007', hint = 'Register it (again): select wakelog.start_worker(...)';
    end if;
end
$$;
