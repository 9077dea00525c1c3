-- Hand out the next events of an agent that takes one for many (wakelog.passes_dedupe), and leave out the others. What
-- debounces is not handed out here: it waits for the end of its window, and is claimed with the late ones.
create or replace function wakelog.claim_once(
    p_agent wakelog.agents, p_cursor bigint, p_worker bigint, p_limit bigint, p_now timestamptz,
    p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant integer := 1000;
    -- The head is read first: what is asked afterwards may see more of the log, never less.
    v_upto bigint := least(wakelog.head(), p_cursor + 100000);
    v_seen bigint[];
    v_event record;
    v_debounces boolean := p_agent.dedupe_mode = 'debounce';
    v_positions bigint[] := '{}'::bigint[];
    v_left_out bigint[] := '{}'::bigint[];
    v_cursor bigint := p_cursor;
begin
    if v_upto <= p_cursor then
        return v_positions;
    end if;

    v_seen := array(select wakelog.wanted_positions(p_agent, p_cursor, v_upto, v_window));
    for v_event in
        select l.position, l.sequenced_at, e.deliver_after, wakelog.order_key(p_agent.dedupe_by, e) as key
        from unnest(v_seen) as p (position)
        join wakelog.log l on l.position = p.position
        join wakelog.events e on e.seq = l.seq
        order by l.position
    loop
        exit when cardinality(v_positions) >= p_limit;
        v_cursor := v_event.position;
        if not wakelog.passes_dedupe(p_agent, v_event.key, v_event.sequenced_at, p_now) then
            v_left_out := v_left_out || v_event.position;
            continue;
        end if;
        -- After a rewind the event may still have its row: it is not handed out twice.
        if v_debounces and v_event.key is not null then
            insert into wakelog.deliveries (
                agent_id, position, key, worker, attempt, available_at, claimed_at, first_claimed_at)
            values (p_agent.id, v_event.position, v_event.key, null, 0,
                    greatest(v_event.sequenced_at + p_agent.dedupe_window, v_event.deliver_after), p_now, p_now)
            on conflict (agent_id, position) do nothing;
        else
            insert into wakelog.deliveries (
                agent_id, position, key, worker, attempt, available_at, claimed_at, first_claimed_at)
            values (p_agent.id, v_event.position, v_event.key, p_worker, 1, p_now + p_lease, p_now, p_now)
            on conflict (agent_id, position) do nothing;
            if found then
                v_positions := v_positions || v_event.position;
            end if;
        end if;
    end loop;
    perform wakelog.leave_out(p_agent, v_left_out, p_now);
    -- Over by the time of the log, which may be long ago where the workers were.
    delete from wakelog.dedupe_windows w
    where w.agent_id = p_agent.id and w.opened_at <= v_event.sequenced_at - p_agent.dedupe_window;

    -- A window that was not full, and was gone through to its end, was the last one.
    if cardinality(v_seen) < v_window and (v_seen = '{}' or v_cursor = v_seen[cardinality(v_seen)]) then
        v_cursor := v_upto;
    end if;
    perform wakelog.move_cursor(p_agent.id, v_cursor, p_now);
    return v_positions;
end
$$;
