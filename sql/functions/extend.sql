-- Prolong the lease of one delivery, counted from now, and return its new end; WL002 where it is lost.
create or replace function wakelog.extend(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer,
    p_lease interval default '30 seconds'
) returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
begin
    update wakelog.deliveries d set available_at = wakelog.clock() + p_lease
    where d.agent_id = v_delivery.agent_id and d.position = p_position
    returning d.available_at into v_delivery.available_at;
    return v_delivery.available_at;
end
$$;
