-- Give a delivery up: it becomes a dead letter, and the event <agent>.failed tells everybody.
create or replace function wakelog.bury(p_agent wakelog.agents, p_delivery wakelog.deliveries, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_error text := p_delivery.failures -> -1 ->> 'error';
begin
    delete from wakelog.deliveries d
    where d.agent_id = p_agent.id and d.position = p_delivery.position;

    insert into wakelog.dead (
        agent_id, position, attempts, stalled, reason, error, failures, first_claimed_at, died_at
    ) values (
        p_agent.id, p_delivery.position, p_delivery.attempt, p_delivery.stalled, p_reason, v_error,
        p_delivery.failures, p_delivery.first_claimed_at, wakelog.clock()
    )
    on conflict (agent_id, position) do update set
        attempts = excluded.attempts, stalled = excluded.stalled, reason = excluded.reason,
        error = excluded.error, failures = excluded.failures, died_at = excluded.died_at;

    perform wakelog.free_slots(p_agent, array[p_delivery.position]);
    if p_delivery.key is not null then
        perform wakelog.step_forward(p_agent.id, array[p_delivery.key]);
    end if;

    perform wakelog.emit(p_agent.name, jsonb_build_array(jsonb_build_object(
        'position', p_delivery.position,
        -- Buried once each time, since the delivery's row goes; a second death is told again.
        'key', 'failed/' || extract(epoch from wakelog.clock()),
        'type', p_agent.name || '.failed',
        'payload', jsonb_build_object('reason', p_reason, 'error', v_error,
                                      'attempts', p_delivery.attempt, 'position', p_delivery.position))));
end
$$;
