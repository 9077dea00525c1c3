-- Hand out nothing more to an agent until it is resumed; what is being worked on is finished.
create or replace function wakelog.pause_agent(p_agent text) returns void
language sql volatile
security definer
begin atomic
    update wakelog.agents a set paused_at = coalesce(a.paused_at, wakelog.clock())
    where a.id = wakelog.agent_id(p_agent);
end;
