-- Remember that events were not worked on because another one stands for them.
create or replace function wakelog.leave_out(p_agent wakelog.agents, p_positions bigint[], p_now timestamptz)
returns void
language sql volatile
begin atomic
    select wakelog.free_slots(p_agent, p_positions);
    insert into wakelog.history (agent_id, position, attempts, stalled, started_at, finished_at, outcome)
    select p_agent.id, p.position, 0, 0, p_now, p_now, 'deduplicated'
    from unnest(p_positions) as p (position)
    where p_agent.keeps_history;
end;
