-- Let the first in line of each of these keys be claimed, if it stood behind another until now; one that is to be
-- delivered later waits for its time. Sees what is
-- committed at this moment, so the transaction must be one that reads committed data.
create or replace function wakelog.step_forward(p_agent_id integer, p_keys text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_position bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'an ordered agent''s work is finished at isolation level read committed, found %',
            current_setting('transaction_isolation') using errcode = 'WL006';
    end if;
    -- One by one, by the whole key: of a table that was nearly empty, the planner would sooner read all of the agent's.
    for v_position in select f.position from wakelog.first_in_line(p_agent_id, p_keys) f loop
        update wakelog.deliveries d
        set available_at = greatest(wakelog.clock(), (
            select e.deliver_after from wakelog.log l join wakelog.events e on e.seq = l.seq
            where l.position = d.position))
        where d.agent_id = p_agent_id and d.position = v_position and d.available_at = 'infinity';
    end loop;
end
$$;
