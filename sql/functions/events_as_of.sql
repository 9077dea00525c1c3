-- The log as it was at a moment, or when it had reached a position: every event that was in it, with all its columns.
-- select * from wakelog.events_as_of('2026-11-27 14:30'), or wakelog.events_as_of(p_position => 812). Where both are given,
-- both hold; where neither is, there is nothing.
create or replace function wakelog.events_as_of(p_at timestamptz default null, p_position bigint default null)
returns table (
    "position" bigint, id uuid, type text, source text, stream text, version bigint, payload jsonb, metadata jsonb,
    correlation_id text, causation_id uuid, idempotency_key text, schema_version integer, occurred_at timestamptz,
    recorded_at timestamptz, sequenced_at timestamptz, deliver_after timestamptz
)
language sql stable
begin atomic
    select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           coalesce(e.correlation_id, e.id::text), e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at,
           e.recorded_at, l.sequenced_at, e.deliver_after
    from wakelog.log l
    join wakelog.events e on e.seq = l.seq
    where l.position <= (select least(p_position, case when p_at is not null then wakelog.position_at(p_at) end))
    order by l.position;
end;
