-- Workflows, the latest first, p_limit at most: with an event since p_since, with one whose type matches p_type, in state
-- p_state (see wakelog.workflow_summary). p_below goes on where another list ended: its last last_position.
--
-- What is read: the log from its end backwards (of p_type alone, along its index) until there are enough, and then the
-- events of each. For running, waiting and failed, only what is unfinished is looked at, however long the log is.
create or replace function wakelog.workflows(
    p_since timestamptz default null, p_type text default null, p_state text default null, p_limit bigint default 100,
    p_below bigint default null
) returns table (
    correlation_id text, state text, events bigint, first_position bigint, first_type text, began_at timestamptz,
    last_position bigint, last_type text, last_at timestamptz, duration interval, running bigint, waiting bigint, dead bigint,
    parent text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_after bigint := case when p_since is null then 0 else wakelog.position_at(p_since) end;
    v_below bigint := coalesce(p_below, 9223372036854775807);
    v_types integer[];
    v_met text[];
    v_given bigint;
    v_left bigint := p_limit;
    v_page bigint := p_limit;
begin
    if p_state not in ('running', 'waiting', 'failed', 'done') then
        raise exception 'expected the state running, waiting, failed or done, found "%"', p_state using errcode = 'WL006';
    end if;
    if p_type is not null then
        v_types := array(select t.id from wakelog.types t
                         where '.' || t.type ~ coalesce(wakelog.patterns_regex(array[p_type], '.'), '^'));
    end if;
    if p_state <> 'done' then
        return query
        select s.* from wakelog.unfinished_workflows() u (correlation_id)
        cross join lateral wakelog.workflow_summary(u.correlation_id) s
        where s.state = p_state and s.last_position > v_after and s.last_position < v_below
          and (v_types is null or exists (
              select from wakelog.events e join wakelog.types t on t.type = e.type
              where coalesce(e.correlation_id, e.id::text) = s.correlation_id and t.id = any (v_types)))
        order by s.last_position desc
        limit p_limit;
        return;
    end if;
    loop
        exit when v_left <= 0;
        v_page := least(v_page, 1000);
        select array_agg(r.correlation_id order by r.position desc), min(r.position) into v_met, v_below
        from wakelog.recent_workflows(v_after, v_below, v_types, v_page) r;
        exit when v_met is null;
        return query
        select s.* from (
            select * from unnest(v_met) with ordinality as u (correlation_id, ordinal) order by u.ordinal offset 0) m
        cross join lateral wakelog.workflow_summary(m.correlation_id) s
        where p_state is null or s.state = p_state
        order by m.ordinal
        limit v_left;
        get diagnostics v_given = row_count;
        v_left := v_left - v_given;
        exit when cardinality(v_met) < v_page;
        v_page := v_page * 8;  -- few are in that state, and the log is walked by windows
    end loop;
end
$$;
