-- The delivery a worker holds, locked; WL002 where it does not hold it. "is true" keeps the condition on the lease off the
-- index of leases: looked up is the one row, whatever was thought of the table when this was planned.
create or replace function wakelog.held(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer
) returns wakelog.deliveries
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_delivery wakelog.deliveries;
begin
    select d.* into v_delivery from wakelog.deliveries d
    where d.agent_id = v_agent_id and d.position = p_position
      and d.worker = p_worker and d.attempt = p_attempt and (d.available_at > wakelog.clock()) is true
    for update;
    if not found then
        perform wakelog.lease_lost(p_agent, p_position, p_worker, p_attempt);
    end if;
    return v_delivery;
end
$$;
