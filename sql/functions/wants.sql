-- Whether an agent wants an event, apart from its type: source patterns, metadata, a jsonpath predicate.
create or replace function wakelog.wants(p_agent wakelog.agents, p_event wakelog.events) returns boolean
language sql stable
begin atomic
    select (p_agent.source_regex is null or '/' || p_event.source ~ p_agent.source_regex)
       and (p_agent.metadata is null or p_event.metadata @> p_agent.metadata)
       and (p_agent.payload_path is null or coalesce(
               jsonb_path_match_tz(p_event.payload, p_agent.payload_path, '{}', true), false));
end;
