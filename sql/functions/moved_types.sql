-- The types an agent wants of which something lies above p_after.
create or replace function wakelog.moved_types(p_agent_id integer, p_after bigint)
returns table (type_id integer)
language sql stable
begin atomic
    select t.id from wakelog.agent_types w join wakelog.types t on t.id = w.type_id
    where w.agent_id = p_agent_id and t.last_position > p_after;
end;
