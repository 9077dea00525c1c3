-- The workflows that had their latest event above p_after and below p_below, latest first; where p_types are given, by
-- their latest event of such a type. Walks the log backwards, 1,000 events at a time, until there are enough.
create or replace function wakelog.recent_workflows(p_after bigint, p_below bigint, p_types integer[], p_limit bigint)
returns table (correlation_id text, "position" bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    v_window constant integer := 1000;
    v_below bigint := least(p_below, wakelog.head() + 1);
    v_from_its_end constant boolean := p_below > wakelog.head();
    v_seen bigint[];
    v_met_here text[];
    v_last_here bigint[];
    v_met text[] := '{}'::text[];
    v_left bigint := p_limit;
    v_given bigint;
begin
    while v_left > 0 loop
        if p_types is null then
            v_seen := array(select l.position from wakelog.log l
                            where l.position > p_after and l.position < v_below
                            order by l.position desc limit v_window);
        else
            v_seen := array(
                select w.position from unnest(p_types) as t (type_id)
                cross join lateral (
                    select l.position from wakelog.log l
                    where (l.type_id, l.position) > (t.type_id, p_after) and (l.type_id, l.position) < (t.type_id, v_below)
                    order by l.type_id desc, l.position desc limit v_window) w
                order by w.position desc limit v_window);
        end if;
        exit when v_seen = '{}';
        select array_agg(c.correlation_id order by c.position), array_agg(c.position order by c.position)
        into v_met_here, v_last_here
        from (
            select coalesce(e.correlation_id, e.id::text) as correlation_id, max(l.position) as position
            from unnest(v_seen) as s (position)
            join wakelog.log l on l.position = s.position
            join wakelog.events e on e.seq = l.seq
            where coalesce(e.correlation_id, e.id::text) <> all (v_met)
            group by 1
        ) c;
        return query
        select c.correlation_id, c.position
        from unnest(v_met_here, v_last_here) as c (correlation_id, position)
        -- Where this walk began below the end of the log, a later event of it may be above that.
        where v_from_its_end or not exists (
            select from wakelog.events e join wakelog.log l on l.seq = e.seq
            where coalesce(e.correlation_id, e.id::text) = c.correlation_id
              and l.position > c.position and (p_types is null or l.type_id = any (p_types)))
        order by c.position desc
        limit v_left;
        get diagnostics v_given = row_count;
        v_left := v_left - v_given;
        v_met := v_met || v_met_here;
        exit when cardinality(v_seen) < v_window;
        v_below := v_seen[cardinality(v_seen)];
    end loop;
end
$$;
