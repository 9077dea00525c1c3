-- Of deliveries just handed out, give some up before anybody tries them: the claim does not count as an attempt.
-- Returns the others.
create or replace function wakelog.bury_untried(
    p_agent wakelog.agents, p_positions bigint[], p_given_up bigint[], p_reason text, p_error text, p_now timestamptz
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
begin
    for v_delivery in
        select d.* from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.position = any (p_given_up)
        order by d.position
    loop
        v_delivery.attempt := v_delivery.attempt - 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, null, null, p_now, p_reason, p_error, null);
        perform wakelog.bury(p_agent, v_delivery, p_reason);
    end loop;
    return wakelog.positions_left(p_positions, p_given_up);
end
$$;
