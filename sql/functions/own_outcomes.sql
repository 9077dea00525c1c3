-- The types in which an agent tells its own outcomes. No pattern of its own matches them, or an agent that
-- wants everything would answer itself for ever.
create or replace function wakelog.own_outcomes(p_agent_name text) returns integer[]
language sql stable
begin atomic
    select array(select t.id from wakelog.types t
                 where t.type in (p_agent_name || '.completed', p_agent_name || '.failed'));
end;
