-- Whether an event is worked on, for an agent that takes one for many. Asked of one event after the other, in the
-- order of the log, under the lock of the agent's cursor.
--
-- simple: unless an earlier one of its key is unfinished. throttle: unless it came within the window of the last one
-- that was let through, by the time at which both came into the log. debounce: when no other has come for the length
-- of the window; until then it waits as a delivery, and the next one takes its place. Without sorting, the index
-- of keys is the way that is left to it: in that of what is due, all keys wait.
create or replace function wakelog.passes_dedupe(
    p_agent wakelog.agents, p_key text, p_sequenced_at timestamptz, p_now timestamptz
) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_sort = off
as $$
declare
    v_rows tid[];
    v_replaced bigint[];
begin
    if p_key is null then
        return true;
    end if;
    if p_agent.dedupe_mode = 'simple' then
        return not exists (
            select from wakelog.deliveries d where d.agent_id = p_agent.id and d.key = p_key);
    end if;
    if p_agent.dedupe_mode = 'throttle' then
        insert into wakelog.dedupe_windows as w (agent_id, key, opened_at)
        values (p_agent.id, p_key, p_sequenced_at)
        on conflict (agent_id, key) do update set opened_at = excluded.opened_at
        where w.opened_at + p_agent.dedupe_window <= excluded.opened_at;
        return found;
    end if;
    v_rows := array(
        select d.ctid from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.key >= p_key and d.key <= p_key
          and d.worker is null and d.attempt = 0 and d.available_at > p_sequenced_at
        order by d.key, d.position);
    if v_rows = '{}' then
        return true;
    end if;
    with replaced as (
        delete from wakelog.deliveries d where d.ctid = any (v_rows) returning d.position
    )
    select array_agg(r.position) into v_replaced from replaced r;
    perform wakelog.leave_out(p_agent, v_replaced, p_now);
    return true;
end
$$;
