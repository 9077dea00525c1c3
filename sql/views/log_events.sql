-- The log: every event in position order, with all its columns.
create or replace view wakelog.log_events as
select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
       coalesce(e.correlation_id, e.id::text) as correlation_id, e.causation_id, e.idempotency_key,
       e.schema_version, e.occurred_at, e.recorded_at, l.sequenced_at, e.seq, e.xid,
       e.deliver_after
from wakelog.log l
join wakelog.events e on e.seq = l.seq
order by l.position;
