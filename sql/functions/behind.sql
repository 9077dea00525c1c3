-- How many events an agent wants and has not claimed: exact up to 10,000, which stands for "that or more".
-- For an agent that wants everything and says nothing it is exact always.
create or replace function wakelog.behind(p_agent wakelog.agents, p_cursor bigint, p_head bigint) returns bigint
language sql stable
security definer
begin atomic
    select case
        when p_agent.type_regex is null and p_agent.source_regex is null and p_agent.metadata is null
             and p_agent.payload_path is null and wakelog.own_outcomes(p_agent.name) = '{}'
            then p_head - p_cursor
        when not wakelog.has_fresh(p_agent, p_cursor) then 0
        else (select count(*) from wakelog.wanted_positions(
            p_agent, p_cursor, least(p_head, p_cursor + 100000), 10000))
    end;
end;
