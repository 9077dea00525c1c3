-- Go on where a paused agent stopped, and wake a worker for it.
create or replace function wakelog.resume_agent(p_agent text) returns void
language sql volatile
security definer
begin atomic
    update wakelog.agents a set paused_at = null where a.id = wakelog.agent_id(p_agent);
    select pg_notify('wakelog', 'ring');
end;
