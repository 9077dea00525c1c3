-- The events of a workflow in the order of the log, the past that it shares with those it was forked from among them
-- (correlation_id says whose they are); up to a position, as the workflow was then. Where a copy of an event was
-- delivered anew, it stands in the original's place. What the parents did later than as_of is not part of it.
--
-- A workflow is small beside the log: each of its events is looked up, and no table is read as a whole.
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
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
begin atomic
    with member as (
        select l.position, l.sequenced_at, e as event, a.correlation_id, a.generation > 0 as shared, a.as_of,
               c.original_seq, coalesce(c.first_seq, e.seq) as first_seq
        from wakelog.ancestry(p_correlation) a
        join wakelog.events e on coalesce(e.correlation_id, e.id::text) = a.correlation_id
        join wakelog.log l on l.seq = e.seq and l.position < a.below and l.position <= p_upto
        left join wakelog.copies c on c.seq = e.seq
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
