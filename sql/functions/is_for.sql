-- Whether an event is for an agent, everything considered: its type, all filters, and to whom a fork has confined it.
create or replace function wakelog.is_for(p_agent wakelog.agents, p_event wakelog.events) returns boolean
language sql stable
begin atomic
    select (p_agent.type_regex is null or '.' || p_event.type ~ p_agent.type_regex)
       and p_event.type not in (p_agent.name || '.completed', p_agent.name || '.failed')
       and wakelog.wants(p_agent, p_event)
       and not exists (select from wakelog.copies c
                       where c.seq = p_event.seq and c.agents is not null and p_agent.name <> all (c.agents));
end;
