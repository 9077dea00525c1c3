-- Wake as many sleeping workers as the waiting work needs, each on its own channel with the names of the
-- agents it is wanted for. Returns the time at which the next postponed delivery is due, if any.
--
-- Call it in a transaction of its own, after sequencing has committed: a worker that fell asleep too late to
-- be seen here looks once more by itself, and finds what was sequenced before. It is committed without waiting
-- for the disk: a ring lost in a crash costs a second.
--
-- What becomes due while this runs may have come too late to be rung for. So its time is returned, although it is
-- past by then: postponed is what was so when this began.
create or replace function wakelog.ring() returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_began constant timestamptz := wakelog.clock();
    v_worker record;
begin
    perform set_config('synchronous_commit', 'off', true);
    for v_worker in
        with wanted as (
            select w.id, r.agent, r.backlog,
                   coalesce(sum(w.room) over (
                       partition by r.agent order by w.room desc, w.id
                       rows between unbounded preceding and 1 preceding), 0) as room_before
            from wakelog.ready_agents() r
            join wakelog.worker_sessions w on w.asleep and w.room > 0 and r.agent = any (w.agents)
        ),
        chosen as (
            select id, string_agg(agent, ' ') as agents from wanted
            where room_before < backlog group by id
        ),
        -- In the order in which reap_workers locks them too.
        locked as (
            select w.id, c.agents from wakelog.worker_sessions w join chosen c on c.id = w.id
            where w.asleep
            order by w.id
            for update of w
        )
        update wakelog.worker_sessions w set asleep = false
        from locked l
        where w.id = l.id
        returning w.id, l.agents
    loop
        -- A list too long for a notification is left out: the worker then asks for itself.
        perform pg_notify('wakelog_worker_' || v_worker.id,
                          case when octet_length(v_worker.agents) < 7500 then v_worker.agents else '' end);
    end loop;
    return (select min(d.available_at) from wakelog.deliveries d
            where d.worker is null and d.available_at > v_began and d.available_at < 'infinity');
end
$$;
