-- Whether something an agent may want lies above its cursor. Looks at types only: the other filters may
-- still turn it all down.
create or replace function wakelog.has_fresh(p_agent wakelog.agents, p_cursor bigint) returns boolean
language sql stable
begin atomic
    select case
        when p_agent.type_regex is null
            then (select s.head from wakelog.sequencer s) > p_cursor
        else exists (select from wakelog.moved_types(p_agent.id, p_cursor))
    end;
end;
