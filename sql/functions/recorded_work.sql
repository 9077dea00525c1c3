-- What agents did with the events of a workflow, and what came of it: for each delivery that they finished or gave up, the
-- answers (with their ids, by key, as wakelog.emit takes them), the steps, and the event. Its own events only, not a shared past.
--
-- Tables are looked up and what was gathered is joined by hash, as in wakelog.workflow_as_of.
create or replace function wakelog.recorded_work(p_correlation text, p_agents text[] default null)
returns table (
    agent text, attempts integer, failed boolean, error text, answers jsonb, steps jsonb,
    "position" bigint, id uuid, type text, source text, stream text, version bigint, payload jsonb, metadata jsonb,
    correlation_id text, causation_id uuid, idempotency_key text, schema_version integer, occurred_at timestamptz,
    recorded_at timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = off
set jit = off
begin atomic
    with event as materialized (
        select l.position, e as event
        from wakelog.events e
        cross join lateral (select o.position from wakelog.log o where o.seq = e.seq offset 0) l
        where coalesce(e.correlation_id, e.id::text) = p_correlation
    ),
    told as materialized (
        select r.position, a.name as agent, (x.event).id,
               substr((x.event).idempotency_key, length('wakelog:' || a.name || '/' || (r.event).id || '/') + 1) as key,
               (x.event).type, (x.event).payload, (x.event).source, (x.event).stream, (x.event).metadata, (x.event).seq
        from event r
        join event x on (x.event).causation_id = (r.event).id
        join wakelog.agents a
            on a.name = split_part(substr((x.event).idempotency_key, length('wakelog:') + 1), '/', 1)
        where starts_with((x.event).idempotency_key, 'wakelog:' || a.name || '/' || (r.event).id || '/')
    ),
    work as (
        select w.position, w.agent, w.attempts, w.state = 'failed' as failed, w.error
        from wakelog.workflow_as_of(p_correlation, 9223372036854775807, 'infinity') w
        where w.outcome in ('completed', 'max_attempts', 'do_not_retry')
    ),
    -- Of an agent that keeps no history, the answer says that it has finished.
    known as (
        select k.* from work k
        union all
        select distinct t.position, t.agent, 1, false, null
        from told t
        where not starts_with(t.key, 'failed/')
          and not exists (select from work k where k.position = t.position and k.agent = t.agent)
    ),
    answer as (
        select t.position, t.agent, jsonb_agg(jsonb_build_object(
                   'key', t.key, 'id', t.id, 'type', t.type, 'payload', t.payload, 'source', t.source, 'stream', t.stream,
                   'metadata', t.metadata) order by t.key, t.seq) as answers
        from told t
        where not starts_with(t.key, 'failed/')
        group by t.position, t.agent
    )
    select k.agent, k.attempts, k.failed, k.error, coalesce(t.answers, '[]'),
           (select coalesce(jsonb_object_agg(s.name, s.result), '{}')
            from wakelog.agents a cross join wakelog.steps_of(a.id, k.position) s where a.name = k.agent),
           e.position, (e.event).id, (e.event).type, (e.event).source, (e.event).stream, (e.event).version,
           (e.event).payload, (e.event).metadata, p_correlation, (e.event).causation_id, (e.event).idempotency_key,
           (e.event).schema_version, (e.event).occurred_at, (e.event).recorded_at
    from known k
    join event e on e.position = k.position
    left join answer t on t.position = k.position and t.agent = k.agent
    where p_agents is null or k.agent = any (p_agents)
    order by e.position, k.agent;
end;
