-- Of those that stand in line behind another of their key, only the last stays. The first of each line is locked
-- already (wakelog.busy_keys), so nobody steps forward meanwhile.
create or replace function wakelog.keep_last(p_agent wakelog.agents, p_keys text[], p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left_out bigint[];
begin
    with superseded as (
        delete from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.key = any (p_keys)
          and d.worker is null and d.available_at = 'infinity'
          and exists (select from wakelog.deliveries later
                      where later.agent_id = d.agent_id and later.key = d.key and later.position > d.position)
        returning d.position
    )
    select array_agg(s.position) into v_left_out from superseded s;
    perform wakelog.leave_out(p_agent, v_left_out, p_now);
end
$$;
