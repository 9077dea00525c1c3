-- Finish one delivery; WL002 where the worker no longer holds it, so that its transaction rolls back.
-- A result becomes the event <agent>.completed.
create or replace function wakelog.ack(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_result jsonb default null,
    p_events jsonb default '[]'
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_result is not null then
        p_events := p_events || wakelog.completed(p_agent, p_position, p_result);
    end if;
    perform wakelog.ack_all(p_agent, p_worker, array[p_position], array[p_attempt], p_events);
end
$$;
