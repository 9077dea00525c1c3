-- Say that a worker may no longer change a delivery.
create or replace function wakelog.lease_lost(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'worker % no longer holds attempt % of agent "%" at position %',
        p_worker, p_attempt, p_agent, p_position
        using errcode = 'WL002', hint = 'The lease ran out or another worker took over; drop this work.';
end
$$;
