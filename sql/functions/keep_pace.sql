-- Remember what was handed out just now, and forget what no window looks back to.
create or replace function wakelog.keep_pace(p_agent wakelog.agents, p_now timestamptz, p_count bigint)
returns void
language sql volatile
begin atomic
    delete from wakelog.starts s
    where s.agent_id = p_agent.id and s.started_at <= p_now - p_agent.rate_window - interval '1 second';
    insert into wakelog.starts (agent_id, started_at)
    select p_agent.id, p_now from generate_series(1, p_count);
end;
