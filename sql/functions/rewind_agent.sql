-- Let an agent see the log again from p_position, the first one delivered anew. Returns how many positions
-- it goes back (negative: forward, skipping).
--
-- What is being worked on, or waits for a retry, at or after p_position stays as it is: it is delivered anew
-- only if it has finished by the time the agent comes by. Dead letters from there on go, since they are
-- delivered anew; so do finished steps, unless p_keep_steps. Emissions keep their idempotency keys: what was
-- emitted before is not emitted twice.
create or replace function wakelog.rewind_agent(
    p_agent text, p_position bigint, p_keep_steps boolean default false
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_cursor wakelog.cursors := wakelog.lock_cursor(v_agent_id);
    v_head bigint := wakelog.head();
begin
    if p_position is null or p_position not between 1 and v_head + 1 then
        raise exception 'expected a position from 1 to %, found %', v_head + 1, p_position
            using errcode = 'WL006';
    end if;
    perform wakelog.move_cursor(v_agent_id, p_position - 1, null);
    if p_position <= v_cursor.position then
        -- They were opened by what is now still to come.
        delete from wakelog.dedupe_windows w where w.agent_id = v_agent_id;
        -- One that is locked is being retried or let go at this moment; waiting for it could be a deadlock.
        with anew as (
            select d.position from wakelog.dead d
            where d.agent_id = v_agent_id and d.position >= p_position
            for update skip locked
        )
        delete from wakelog.dead d using anew a where d.agent_id = v_agent_id and d.position = a.position;
        delete from wakelog.steps s
        where s.agent_id = v_agent_id and s.position >= p_position and not p_keep_steps
          and not exists (select from wakelog.deliveries d
                          where d.agent_id = s.agent_id and d.position = s.position);
    end if;
    perform pg_notify('wakelog', 'ring');
    return v_cursor.position - (p_position - 1);
end
$$;
