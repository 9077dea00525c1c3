-- When the oldest event an agent has not finished became part of the log; null where it is up to date.
create or replace function wakelog.oldest_waiting(p_agent wakelog.agents, p_cursor bigint, p_head bigint)
returns timestamptz
language sql stable
security definer
begin atomic
    select min(l.sequenced_at) from wakelog.log l
    where l.position in (
        (select w.position from wakelog.wanted_positions(
             p_agent, p_cursor, least(p_head, p_cursor + 100000), 1) as w (position)
         where wakelog.has_fresh(p_agent, p_cursor))
        union all
        (select min(d.position) from wakelog.deliveries d where d.agent_id = p_agent.id));
end;
