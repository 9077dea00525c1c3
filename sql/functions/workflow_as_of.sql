-- A workflow when the log had reached p_upto, at the moment p_as_of: the events there were, and for each agent that was
-- to work on one how far it was. See wakelog.workflow_at.
--
-- What an agent answered goes by position, which is exact: it had finished if its answer was in the log. One that
-- answered nothing had finished if the time says so. An agent that keeps no history, and one whose history was
-- dropped, is not shown where it answered nothing.
--
-- Each row of a table is looked up for an event (a lateral look with offset 0 is planned as nothing else), and what was
-- gathered is joined by hash, whatever is thought of its size: a workflow may have thousands of events.
create or replace function wakelog.workflow_as_of(p_correlation text, p_upto bigint, p_as_of timestamptz)
returns table (
    "position" bigint, event_id uuid, agent text, state text, outcome text, attempts integer, worker bigint,
    started_at timestamptz, ended_at timestamptz, error text, failures jsonb
)
language sql stable rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = off
set jit = off
begin atomic
    with line as materialized (
        select g.correlation_id, g.reached from wakelog.ancestry(p_correlation) g
    ),
    event as materialized (
        select w.position, w.id, w.seq, w.sequenced_at, least(w.as_of, p_as_of) as as_of,
               least(p_upto, (select g.reached from line g where g.correlation_id = w.correlation_id)) as upto
        from wakelog.workflow_events(p_correlation, p_upto) w
    ),
    -- What each agent said of each event. Without a position yet: after everything that has one.
    told as materialized (
        select y.position, y.agent, min(y.replied) filter (where not y.is_failure) as answered,
               min(y.replied) filter (where y.is_failure) as failed,
               max(y.sequenced_at) filter (where y.is_failure and y.replied <= y.upto) as failed_at
        from (
            select e.position, e.upto, t.agent, coalesce(l.position, 9223372036854775807) as replied, l.sequenced_at,
                   coalesce(starts_with(r.idempotency_key, t.prefix || 'failed/'), false) as is_failure
            from line g
            cross join lateral (
                select v.seq, v.causation_id, v.source, v.idempotency_key from wakelog.events v
                where coalesce(v.correlation_id, v.id::text) = g.correlation_id and v.causation_id is not null offset 0) r
            join event e on e.id = r.causation_id
            cross join lateral (
                select n.agent, 'wakelog:' || n.agent || '/' || e.id || '/' as prefix
                from (values (r.source), (split_part(substr(r.idempotency_key, length('wakelog:') + 1), '/', 1))) n (agent)
                group by n.agent) t
            left join lateral (
                select o.position, o.sequenced_at from wakelog.log o where o.seq = r.seq offset 0) l on true
            where t.agent = r.source or starts_with(r.idempotency_key, t.prefix)
        ) y
        group by y.position, y.agent
    ),
    record as (
        select e.position, d.agent_id, 'delivery' as kind, d.attempt as attempts, d.worker,
               case when d.worker is not null then d.claimed_at end as started_at, null::timestamptz as ended_at,
               null as outcome, d.failures, d.first_claimed_at
        from event e cross join wakelog.agents a
        cross join lateral (
            select d.* from wakelog.deliveries d where d.agent_id = a.id and d.position = e.position offset 0) d
        union all
        select e.position, x.agent_id, 'dead', x.attempts, null, null, x.died_at, x.reason, x.failures, x.first_claimed_at
        from event e cross join wakelog.agents a
        cross join lateral (
            select x.* from wakelog.dead x where x.agent_id = a.id and x.position = e.position offset 0) x
        union all
        select e.position, h.agent_id, 'history', h.attempts, h.worker, h.started_at, h.finished_at, h.outcome, h.failures,
               least(h.started_at, (h.failures -> 0 ->> 'started_at')::timestamptz)
        from event e
        cross join lateral (select h.* from wakelog.history h where h.position = e.position offset 0) h
    ),
    -- The latest attempt begun by then, and what the agent had told by then.
    known as (
        select r.*, e.id, e.as_of, a.name,
               t.attempt as try, t.worker as tried_by, t.started_at as try_started, t.ended_at as try_ended, t.error,
               told.answered, told.failed, told.failed_at,
               coalesce(told.answered <= e.upto, r.ended_at <= e.as_of) and r.kind = 'history' as done,
               coalesce(told.failed <= e.upto, r.ended_at <= e.as_of) and r.kind = 'dead' as died
        from record r
        join event e on e.position = r.position
        join wakelog.agents a on a.id = r.agent_id and a.created_at <= e.as_of
        left join lateral (
            select t.* from (
                select f.attempt, f.worker, f.started_at, f.failed_at as ended_at, f.error
                from jsonb_to_recordset(coalesce(r.failures, '[]')) as f (
                    attempt integer, worker bigint, started_at timestamptz, failed_at timestamptz, error text)
                union all
                select r.attempts, r.worker, r.started_at, r.ended_at, null where r.kind <> 'dead'
            ) t
            where t.started_at <= e.as_of
            order by t.started_at desc, t.attempt desc
            limit 1
        ) t on true
        left join told on told.position = r.position and told.agent = a.name
    ),
    judged as (
        select k.*,
               case when k.done then case k.outcome when 'discarded' then 'failed' else 'finished' end
                    when k.died then 'failed'
                    -- Given up by then, and tried again later.
                    when k.as_of < 'infinity' and k.failed_at >= coalesce(k.try_started, k.first_claimed_at) then 'failed'
                    -- Its last try ends with its answer, which was not in the log yet, whatever the clock says.
                    when k.kind = 'history' and k.try_ended = k.ended_at then 'running'
                    when k.try_started is null or k.try_ended <= k.as_of then 'waiting'
                    else 'running' end as state
        from known k
    ),
    -- Delivered more than once: what it was at then, else what it had come to last, else what was still to come.
    chosen as (
        select distinct on (j.position, j.agent_id) j.* from judged j
        order by j.position, j.agent_id, j.kind <> 'delivery' or j.first_claimed_at > j.as_of,
                 not j.died, not j.done, case when j.done or j.died then j.ended_at end desc, j.ended_at
    )
    select c.position, c.id, c.name, c.state,
           case when c.done or c.died then c.outcome end,
           case when c.done or c.died then c.attempts else coalesce(c.try, 0) end,
           c.tried_by, c.try_started,
           case when c.done or c.died then c.ended_at else c.try_ended end,
           case when c.state = 'failed' then coalesce(c.error, c.failures -> -1 ->> 'error') else c.error end,
           (select jsonb_agg(f.failure order by f.ordinal)
            from jsonb_array_elements(c.failures) with ordinality as f (failure, ordinal)
            where (f.failure ->> 'failed_at')::timestamptz <= c.as_of)
    from chosen c
    union all
    select e.position, e.id, a.name, 'waiting', null, 0, null, null, null, null, null
    from event e
    cross join wakelog.agents a
    join wakelog.cursors u on u.agent_id = a.id
    cross join lateral (select v as event from wakelog.events v where v.seq = e.seq offset 0) v
    where u.position < e.position and a.created_at <= e.as_of and wakelog.is_for(a, v.event)
      and not exists (select from record r where r.position = e.position and r.agent_id = a.id)
    order by 1, 3;
end;
