-- Give out the first event of each free key, p_limit at most, and put the others in line, as far as that goes.
-- given: what was given out; upto: the last position that was dealt with; done: whether all were.
create or replace function wakelog.stand_in_line(
    p_agent_id integer, p_positions bigint[], p_keys text[], p_busy text[], p_limit bigint, p_worker bigint,
    p_now timestamptz, p_lease interval, out given bigint[], out upto bigint, out done boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    with wanted as (
        select w.position, w.key,
               w.key is null or (
                   w.key <> all (p_busy)
                   and row_number() over (partition by w.key order by w.position) = 1) as free
        from unnest(p_positions, p_keys) as w (position, key)
    ),
    counted as (
        select w.*, count(*) filter (where w.free) over (order by w.position) as nth from wanted w
    ),
    dealt as (
        select c.* from counted c where c.nth < p_limit or (c.nth = p_limit and c.free)
    ),
    placed as (
        -- After a rewind an event may still have its row: it is not handed out twice.
        insert into wakelog.deliveries (
            agent_id, position, key, worker, attempt, available_at, claimed_at, first_claimed_at)
        select p_agent_id, d.position, d.key, case when d.free then p_worker end, d.free::integer,
               case when d.free then p_now + p_lease else 'infinity' end, p_now, p_now
        from dealt d
        on conflict (agent_id, position) do nothing
        returning position, worker
    )
    select coalesce((select array_agg(p.position order by p.position) from placed p
                     where p.worker is not null), '{}'),
           (select max(d.position) from dealt d),
           (select count(*) from dealt) = cardinality(p_positions)
    into given, upto, done;
end
$$;
