-- The agents for which a claim may find something, and about how much: at least 1. What is due again is counted where
-- it makes a difference, to 100.
create or replace function wakelog.ready_agents(p_agents text[] default null)
returns table (agent text, backlog bigint)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_head bigint := wakelog.head();
    v_now timestamptz := wakelog.clock();
begin
    return query
    select a.name, case
        when v_head - c.position >= 100 then v_head - c.position
        else greatest(1, v_head - c.position + (
            select count(*) from (
                select from wakelog.deliveries d
                where d.agent_id = a.id and d.available_at <= v_now and (d.worker is null or d.lost)
                limit 100) due))
        end
    from wakelog.agents a
    cross join lateral (
        select n.position, wakelog.unswept(n.swept_at, v_now) as unswept
        from wakelog.cursors n where n.agent_id = a.id order by n.moved desc limit 1) c
    where (p_agents is null or a.name = any (p_agents))
      and a.paused_at is null
      and (wakelog.has_fresh(a, c.position)
           or exists (select from wakelog.deliveries d
                      where d.agent_id = a.id and d.available_at <= v_now and (d.worker is null or d.lost) offset 0)
           or exists (select from wakelog.deliveries d
                      where d.agent_id = a.id and d.available_at <= v_now
                        and d.available_at > c.unswept
                        and d.worker is not null and not d.lost offset 0))
      and (a.rate_count is null or wakelog.pace(a, v_now) > 0)
      and (a.concurrency is null or wakelog.running(a.id, v_now) < a.concurrency);
end
$$;
