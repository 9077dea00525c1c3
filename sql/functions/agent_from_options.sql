-- Read an agent's options into a row of wakelog.agents; WL006 for one that is unknown or unusable.
create or replace function wakelog.agent_from_options(p_name text, p_options jsonb) returns wakelog.agents
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
    v_unknown text;
begin
    select string_agg(k.key, ', ') into v_unknown
    from jsonb_object_keys(p_options) as k (key)
    where k.key not in ('types', 'sources', 'metadata', 'payload_path', 'timeout', 'max_attempts',
                        'max_stalled', 'backoff', 'concurrency', 'ordered_by', 'rate', 'expires', 'dedupe',
                        'capacity', 'overflow', 'history', 'start');
    if v_unknown is not null then
        raise exception 'agent "%" has options that are not known: %', p_name, v_unknown
            using errcode = 'WL006';
    end if;
    v_agent.name := p_name;
    v_agent.types := wakelog.text_array(p_options -> 'types');
    v_agent.sources := wakelog.text_array(p_options -> 'sources');
    if v_agent.types is null then
        raise exception 'agent "%" must say which types it wants, "#" for all', p_name
            using errcode = 'WL006';
    end if;
    v_agent.type_regex := wakelog.patterns_regex(v_agent.types, '.');
    v_agent.source_regex := wakelog.patterns_regex(v_agent.sources, '/');
    v_agent.metadata := nullif(p_options -> 'metadata', 'null');
    v_agent.payload_path := (p_options ->> 'payload_path')::jsonpath;
    v_agent.timeout := make_interval(secs => coalesce((p_options ->> 'timeout')::double precision, 300));
    v_agent.max_attempts := coalesce((p_options ->> 'max_attempts')::integer, 5);
    v_agent.max_stalled := coalesce((p_options ->> 'max_stalled')::integer, 10);
    v_agent.backoff := coalesce(nullif(p_options -> 'backoff', 'null'),
                                '{"kind": "exponential", "delay": 1, "max": 300, "jitter": 0}');
    perform wakelog.backoff(v_agent.backoff, 1);
    v_agent.concurrency := (p_options ->> 'concurrency')::integer;
    v_agent.ordered_by := p_options ->> 'ordered_by';
    perform wakelog.check_key(p_name, 'ordered_by', v_agent.ordered_by);
    v_agent.rate_count := (p_options #>> '{rate,count}')::integer;
    v_agent.rate_window := make_interval(secs => (p_options #>> '{rate,window}')::double precision);
    v_agent.expires := make_interval(secs => (p_options ->> 'expires')::double precision);
    v_agent.dedupe_by := p_options #>> '{dedupe,by}';
    v_agent.dedupe_mode := p_options #>> '{dedupe,mode}';
    v_agent.dedupe_window := make_interval(secs => (p_options #>> '{dedupe,window}')::double precision);
    perform wakelog.check_key(p_name, 'dedupe', v_agent.dedupe_by);
    if v_agent.dedupe_mode is not null and v_agent.ordered_by is not null then
        raise exception 'agent "%" is ordered and takes one event for many: expected one of both', p_name
            using errcode = 'WL006';
    end if;
    -- One at work and the last one after it: a line of two.
    if v_agent.dedupe_mode = 'keep_last' then
        v_agent.ordered_by := v_agent.dedupe_by;
    end if;
    v_agent.capacity := (p_options ->> 'capacity')::integer;
    v_agent.overflow := coalesce(p_options ->> 'overflow', 'refuse');
    v_agent.keeps_history := coalesce((p_options ->> 'history')::boolean, true);
    return v_agent;
end
$$;
