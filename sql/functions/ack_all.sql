-- Finish deliveries whose work was done together: all of them, or none. WL002 where the worker no longer holds
-- one, so that the transaction they share rolls back.
create or replace function wakelog.ack_all(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[], p_events jsonb default '[]'
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_acked bigint[] := array(
        select wakelog.ack_many(p_agent, p_worker, p_positions, p_attempts, p_events));
begin
    if cardinality(v_acked) < cardinality(p_positions) then
        perform wakelog.lease_lost(p_agent, p.position, p_worker, p.attempt)
        from unnest(p_positions, p_attempts) as p (position, attempt)
        where p.position <> all (v_acked);
    end if;
end
$$;
