-- Take a slot for an event that one bounded agent wants; WL008 where there is none.
--
-- The setting wakelog.backpressure says what a producer does then: refuse (the default), wait, or a number of seconds
-- to wait. Each look sees what has been committed by then, which needs isolation level read committed. What agents
-- answer is never refused: their work is done.
create or replace function wakelog.take_slot(p_agent wakelog.agents, p_event wakelog.events) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_says text := coalesce(nullif(current_setting('wakelog.backpressure', true), ''), 'refuse');
    v_until timestamptz;
    v_pause double precision := 0.005;
begin
    if v_says !~ '^(refuse|wait|[0-9]+(\.[0-9]+)?)$' then
        raise exception 'expected wakelog.backpressure to be refuse, wait or a number of seconds, found "%"', v_says
            using errcode = 'WL006';
    end if;
    v_until := case v_says
        when 'refuse' then '-infinity'::timestamptz
        when 'wait' then 'infinity'
        else clock_timestamp() + make_interval(secs => v_says::double precision) end;
    loop
        if wakelog.take_room(p_agent.id, 1, false) = 1 then
            insert into wakelog.slots (agent_id, seq) values (p_agent.id, p_event.seq);
            return;
        end if;
        if starts_with(p_event.idempotency_key, 'wakelog:') then
            return;
        end if;
        if p_agent.overflow = 'drop_oldest' and wakelog.drop_oldest(p_agent.id, p_event.seq) then
            return;
        end if;
        if clock_timestamp() >= v_until then
            raise exception 'agent "%" has % unfinished events, which is its capacity', p_agent.name, p_agent.capacity
                using errcode = 'WL008',
                      hint = 'Append it again later, or wait: set wakelog.backpressure to wait, or to a number of seconds.';
        end if;
        perform pg_sleep(v_pause);
        v_pause := least(v_pause * 2, 0.1);
    end loop;
end
$$;
