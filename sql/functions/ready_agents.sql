-- The agents for which a claim may find something, and about how much (never less than 1).
create or replace function wakelog.ready_agents(p_agents text[] default null)
returns table (agent text, backlog bigint)
language sql stable
security definer
begin atomic
    select a.name, greatest(s.head - c.position, 1)
    from wakelog.agents a
    join wakelog.cursors c on c.agent_id = a.id
    cross join wakelog.sequencer s
    where (p_agents is null or a.name = any (p_agents))
      and a.paused_at is null
      and (wakelog.has_fresh(a, c.position)
           or exists (select from wakelog.deliveries d
                      where d.agent_id = a.id and d.available_at <= wakelog.clock()))
      and (a.rate_count is null or wakelog.pace(a, wakelog.clock()) > 0)
      and (a.concurrency is null or wakelog.running(a.id, wakelog.clock()) < a.concurrency);
end;
