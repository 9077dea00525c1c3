-- The bytes of an event that its seal stands for: everything that is the record, each field with its type and its
-- length before it (docs/integrity.md). The 1 is the version of this form. What is left out belongs to one cluster
-- (xid) or repeats something else (type_id).
--
-- No setting has a say in it but client_encoding: whoever calls it sets that to UTF8. (Converting each text by
-- itself took twice as long.)
create or replace function wakelog.event_record(p_place wakelog.log, p_event wakelog.events) returns bytea
language sql stable
begin atomic
    select record_send(row(
        1, p_place.position, p_place.seq, p_place.sequenced_at, p_event.id, p_event.type, p_event.source,
        p_event.stream, p_event.version, p_event.correlation_id, p_event.causation_id, p_event.idempotency_key,
        p_event.schema_version, p_event.occurred_at, p_event.recorded_at, p_event.deliver_after,
        p_event.metadata::text, p_event.payload::text));
end;
