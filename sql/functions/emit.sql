-- Append events that an agent answers with, each carrying on the correlation of the event it answers and
-- naming it as its cause.
--
-- p_events is an array of objects: position (of the event answered), key (unlike any other of this agent
-- for this event), type, and optionally id, payload, source, stream, metadata, correlation_id, schema_version,
-- deliver_after.
-- The idempotency key is made of agent, event and key, so a repeated attempt adds nothing; its prefix is reserved.
create or replace function wakelog.emit(p_agent text, p_events jsonb) returns void
language sql volatile
begin atomic
    select wakelog.lock_streams(array_agg(a.event ->> 'stream'))
    from jsonb_array_elements(p_events) as a (event)
    where a.event ->> 'stream' is not null
    having count(*) > 1;

    insert into wakelog.events (
        id, type, source, stream, payload, metadata, correlation_id, causation_id, idempotency_key,
        schema_version, deliver_after
    )
    select coalesce(n.id, wakelog.uuid7()), n.type, coalesce(n.source, p_agent), n.stream, coalesce(n.payload, '{}'),
           coalesce(n.metadata, '{}'),
           coalesce(n.correlation_id, cause.correlation_id, cause.id::text), cause.id,
           'wakelog:' || p_agent || '/' || cause.id || '/' || n.key, coalesce(n.schema_version, 1),
           n.deliver_after
    from jsonb_array_elements(p_events) with ordinality as a (event, ordinal)
    cross join lateral jsonb_to_record(a.event) as n (
        position bigint, key text, id uuid, type text, payload jsonb, source text, stream text, metadata jsonb,
        correlation_id text, schema_version integer, deliver_after timestamptz
    )
    join wakelog.log l on l.position = n.position
    join wakelog.events cause on cause.seq = l.seq
    order by a.ordinal
    on conflict (source, idempotency_key) do nothing;
end;
