-- The steps of one delivery that have finished, with what they returned; those that a fork inherits among them.
create or replace function wakelog.finished_steps(p_agent text, p_position bigint)
returns table (name text, result jsonb)
language sql stable
security definer
begin atomic
    select s.name, s.result from wakelog.steps_of(wakelog.agent_id(p_agent), p_position) s;
end;
