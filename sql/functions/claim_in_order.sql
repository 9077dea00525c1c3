-- Hand out the next events of an agent that works in order: of each key the first, and none while an earlier one
-- of that key is unfinished. The others are put in line behind it, so that the cursor can go on to other keys:
-- one with a hundred thousand events holds up nobody else's.
create or replace function wakelog.claim_in_order(
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
    v_cursor bigint := p_cursor;
    v_seen bigint[];
    v_keys text[];
    v_dealt record;
    v_positions bigint[] := '{}'::bigint[];
begin
    for v_turn in 1..20 loop
        exit when v_cursor >= v_upto or cardinality(v_positions) >= p_limit;
        v_seen := array(select wakelog.wanted_positions(p_agent, v_cursor, v_upto, v_window));
        if v_seen = '{}' then
            v_cursor := v_upto;
            exit;
        end if;
        v_keys := array(
            select wakelog.order_key(p_agent.ordered_by, e)
            from unnest(v_seen) as p (position)
            join wakelog.log l on l.position = p.position
            join wakelog.events e on e.seq = l.seq
            order by l.position);
        select s.* into v_dealt from wakelog.stand_in_line(
            p_agent.id, v_seen, v_keys, wakelog.busy_keys(p_agent.id, v_keys),
            p_limit - cardinality(v_positions), p_worker, p_now, p_lease) s;
        if p_agent.dedupe_mode is not null then
            perform wakelog.keep_last(p_agent, v_keys, p_now);
        end if;
        v_positions := v_positions || v_dealt.given;
        -- A window that was not full was the last one.
        v_cursor := case when v_dealt.done and cardinality(v_seen) < v_window then v_upto else v_dealt.upto end;
    end loop;

    if v_cursor > p_cursor then
        perform wakelog.move_cursor(p_agent.id, v_cursor, p_now);
    end if;
    return v_positions;
end
$$;
