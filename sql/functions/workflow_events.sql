-- The events of a workflow in the order of the log, the past that it shares with those it was forked from among them
-- (correlation_id says whose they are); up to a position, as the workflow was then. Where a copy of an event was
-- delivered anew, it stands in the original's place. What the parents did later than as_of is not part of it.
--
-- A workflow is small beside the log: each of its events is looked up (a lateral look with offset 0 is planned as nothing
-- else), and no table is read as a whole, whatever statistics say and whoever calls.
create or replace function wakelog.workflow_events(p_correlation text, p_upto bigint default 9223372036854775807)
returns table (
    "position" bigint, id uuid, type text, source text, stream text, version bigint, payload jsonb, metadata jsonb,
    correlation_id text, causation_id uuid, idempotency_key text, schema_version integer, occurred_at timestamptz,
    recorded_at timestamptz, sequenced_at timestamptz, shared boolean, original uuid, as_of timestamptz, seq bigint,
    first_seq bigint
)
language sql stable rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with member as (
        select l.position, l.sequenced_at, e as event, a.correlation_id, a.generation > 0 as shared, a.as_of,
               c.original_seq, coalesce(c.first_seq, e.seq) as first_seq
        from wakelog.ancestry(p_correlation) a
        cross join lateral (
            select v.* from wakelog.events v where coalesce(v.correlation_id, v.id::text) = a.correlation_id offset 0) e
        cross join lateral (select o.* from wakelog.log o where o.seq = e.seq offset 0) l
        left join wakelog.copies c on c.seq = e.seq
        where l.position < a.below and l.position <= p_upto
    ),
    newest as (
        select distinct on (m.first_seq) m.* from member m order by m.first_seq, m.position desc
    )
    select n.position, (n.event).id, (n.event).type, (n.event).source, (n.event).stream, (n.event).version,
           (n.event).payload, (n.event).metadata, n.correlation_id, (n.event).causation_id,
           (n.event).idempotency_key, (n.event).schema_version, (n.event).occurred_at, (n.event).recorded_at,
           n.sequenced_at, n.shared, o.id, nullif(n.as_of, 'infinity'), (n.event).seq, n.first_seq
    from newest n left join wakelog.events o on o.seq = n.original_seq
    order by n.position;
end;
