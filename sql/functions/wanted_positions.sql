-- The next positions an agent wants, in log order: above p_after, up to p_upto, at most p_limit.
--
-- Three ways to look: along the log for an agent that wants every type; along the index of each type and
-- merged for one that wants few, or of whose types few have moved; along the log, skipping the rest, for one that
-- wants many.
create or replace function wakelog.wanted_positions(
    p_agent wakelog.agents, p_after bigint, p_upto bigint, p_limit bigint
) returns setof bigint
language plpgsql stable rows 500
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_filtered boolean := p_agent.source_regex is not null or p_agent.metadata is not null
                          or p_agent.payload_path is not null;
    -- Copies in forks may be for some agents only.
    v_confined boolean := exists (select from wakelog.copies c where c.agents is not null);
    v_types integer[];
    v_own integer[];
begin
    if p_agent.type_regex is null then
        v_own := wakelog.own_outcomes(p_agent.name);
        if not v_filtered then
            return query
            select l.position from wakelog.log l
            where l.position > p_after and l.position <= p_upto and l.type_id <> all (v_own)
              and (not v_confined or not exists (
                  select from wakelog.copies c where c.seq = l.seq and c.agents is not null and p_agent.name <> all (c.agents)))
            order by l.position limit p_limit;
        else
            return query
            select l.position from wakelog.log l join wakelog.events e on e.seq = l.seq
            where l.position > p_after and l.position <= p_upto and l.type_id <> all (v_own)
              and (not v_confined or not exists (
                  select from wakelog.copies c where c.seq = l.seq and c.agents is not null and p_agent.name <> all (c.agents)))
              and wakelog.wants(p_agent, e)
            order by l.position limit p_limit;
        end if;
        return;
    end if;

    v_types := array(select w.type_id from wakelog.agent_types w where w.agent_id = p_agent.id limit 1001);
    if cardinality(v_types) between 17 and 1000 and p_upto - p_after > 1000 then
        v_types := array(select wakelog.moved_types(p_agent.id, p_after));
    end if;
    if cardinality(v_types) <= 16 then
        return query
        select w.position
        from unnest(v_types) as t (type_id)
        cross join lateral (
            select l.position from wakelog.log l
            where (l.type_id, l.position) > (t.type_id, p_after)
              and (l.type_id, l.position) <= (t.type_id, p_upto)
              and (not v_confined or not exists (
                  select from wakelog.copies c where c.seq = l.seq and c.agents is not null and p_agent.name <> all (c.agents)))
              and (not v_filtered or (
                  select wakelog.wants(p_agent, e) from wakelog.events e where e.seq = l.seq))
            order by l.type_id, l.position limit p_limit
        ) w
        order by w.position limit p_limit;
    else
        return query
        select l.position from wakelog.log l
        where l.position > p_after and l.position <= p_upto
          and exists (select from wakelog.agent_types w
                      where w.agent_id = p_agent.id and w.type_id = l.type_id)
          and (not v_confined or not exists (
              select from wakelog.copies c where c.seq = l.seq and c.agents is not null and p_agent.name <> all (c.agents)))
          and (not v_filtered or (
              select wakelog.wants(p_agent, e) from wakelog.events e where e.seq = l.seq))
        order by l.position limit p_limit;
    end if;
end
$$;
