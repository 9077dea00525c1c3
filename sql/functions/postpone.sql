-- Of deliveries just handed out, let those wait whose event is to be delivered later; returns the others. They
-- have not been tried, and are claimed as retries are once their time has come.
--
-- Without statistics the first question would be answered by reading all events: none is delayed, mostly.
create or replace function wakelog.postpone(p_agent_id integer, p_positions bigint[], p_now timestamptz)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    v_later bigint[];
begin
    if not exists (select from wakelog.events e where e.deliver_after > p_now) then
        return p_positions;
    end if;
    with later as (
        update wakelog.deliveries d
        set worker = null, attempt = 0, available_at = e.deliver_after
        from unnest(p_positions) as p (position)
        join wakelog.log l on l.position = p.position
        join wakelog.events e on e.seq = l.seq
        where d.agent_id = p_agent_id and d.position = p.position and e.deliver_after > p_now
        returning d.position
    )
    select array_agg(l.position) into v_later from later l;
    return wakelog.positions_left(p_positions, v_later);
end
$$;
