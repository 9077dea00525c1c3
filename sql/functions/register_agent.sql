-- Make an agent known, or change it; return its id. Where it starts counts only the first time.
--
-- p_options, all of them optional but types: types, sources (arrays of patterns), metadata (an object the
-- event's metadata must contain), payload_path (a jsonpath predicate), timeout (seconds), max_attempts,
-- max_stalled, backoff (see wakelog.backoff), concurrency, ordered_by,
-- rate ({"count": n, "window": seconds}), expires (seconds),
-- dedupe ({"by": as ordered_by, "mode": simple | throttle | debounce | keep_last, "window": seconds}),
-- capacity (unfinished events), overflow (refuse | drop_oldest), history (boolean),
-- start: "now" (the default: events committed from here on), "beginning", a position (number: the first
-- one wanted), or a time (text).
--
-- A transaction of its own, please: it holds the sequencer's lock to its commit, so that a type appearing at
-- this moment is not missed; and sequences first, so that "now" is now.
create or replace function wakelog.register_agent(p_name text, p_options jsonb) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
begin
    perform pg_advisory_xact_lock(wakelog.lock_space('sequencer'), 0);
    if pg_current_xact_id_if_assigned() is null then
        perform wakelog.sequence();
    end if;
    v_agent := wakelog.agent_from_options(p_name, p_options);

    insert into wakelog.agents as a (
        name, types, sources, metadata, payload_path, type_regex, source_regex, timeout, max_attempts,
        max_stalled, backoff, concurrency, ordered_by, rate_count, rate_window,
        expires, dedupe_by, dedupe_mode, dedupe_window, capacity, overflow,
        keeps_history
    ) values (
        v_agent.name, v_agent.types, v_agent.sources, v_agent.metadata, v_agent.payload_path,
        v_agent.type_regex, v_agent.source_regex, v_agent.timeout, v_agent.max_attempts,
        v_agent.max_stalled, v_agent.backoff, v_agent.concurrency, v_agent.ordered_by,
        v_agent.rate_count, v_agent.rate_window, v_agent.expires,
        v_agent.dedupe_by, v_agent.dedupe_mode, v_agent.dedupe_window, v_agent.capacity,
        v_agent.overflow, v_agent.keeps_history
    )
    on conflict (name) do update set
        types = excluded.types, sources = excluded.sources, metadata = excluded.metadata,
        payload_path = excluded.payload_path, type_regex = excluded.type_regex,
        source_regex = excluded.source_regex, timeout = excluded.timeout,
        max_attempts = excluded.max_attempts, max_stalled = excluded.max_stalled,
        backoff = excluded.backoff, concurrency = excluded.concurrency,
        ordered_by = excluded.ordered_by, rate_count = excluded.rate_count,
        rate_window = excluded.rate_window, expires = excluded.expires,
        dedupe_by = excluded.dedupe_by, dedupe_mode = excluded.dedupe_mode,
        dedupe_window = excluded.dedupe_window, capacity = excluded.capacity,
        overflow = excluded.overflow, keeps_history = excluded.keeps_history, updated_at = clock_timestamp()
    returning a.* into v_agent;

    insert into wakelog.cursors (agent_id, position)
    select v_agent.id, wakelog.start_position(coalesce(p_options -> 'start', '"now"'))
    where not exists (select from wakelog.cursors c where c.agent_id = v_agent.id);

    delete from wakelog.agent_types where agent_id = v_agent.id;
    insert into wakelog.agent_types (agent_id, type_id)
    select v_agent.id, t.id from wakelog.types t
    where '.' || t.type ~ v_agent.type_regex
      and t.type not in (p_name || '.completed', p_name || '.failed');
    perform wakelog.set_capacity(v_agent);
    return v_agent.id;
end
$$;
