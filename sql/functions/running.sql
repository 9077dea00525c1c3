-- How many deliveries of an agent are with workers whose lease still runs.
create or replace function wakelog.running(p_agent_id integer, p_now timestamptz) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select count(*) from wakelog.deliveries d
        where d.agent_id = p_agent_id and d.available_at > p_now and d.worker is not null and not d.lost);
end
$$;
