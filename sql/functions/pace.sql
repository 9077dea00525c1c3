-- How many more may start now without more than rate_count in any rate_window; null for an agent without a rate.
--
-- A worker starts what it claims within 50 ms or gives it back. The window looks back so much further, and what is
-- true of the claims is true of the starts.
create or replace function wakelog.pace(p_agent wakelog.agents, p_now timestamptz) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return p_agent.rate_count - (
        select count(*) from wakelog.starts s
        where s.agent_id = p_agent.id
          and s.started_at > p_now - p_agent.rate_window - interval '50 milliseconds');
end
$$;
