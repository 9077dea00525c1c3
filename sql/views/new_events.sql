-- What a projection is to fold next: in the transaction that begins with wakelog.begin_projecting, the events of its
-- range that it wants; nothing anywhere else. Inline projections see the inserted rows under the same name, which
-- have all columns but position and sequenced_at.
-- The bounds are settings and no parameters, so that the planner knows them.
create or replace view wakelog.new_events as
select l.position, l.sequenced_at,
       e.seq, e.id, e.xid, e.type, e.source, e.stream, e.version, e.payload, e.metadata, e.correlation_id,
       e.causation_id, e.idempotency_key, e.schema_version, e.occurred_at, e.recorded_at, e.deliver_after
from wakelog.log l
join wakelog.events e on e.seq = l.seq
where l.position > nullif(current_setting('wakelog.after', true), '')::bigint
  and l.position <= nullif(current_setting('wakelog.upto', true), '')::bigint
  and e.seq >= nullif(current_setting('wakelog.first_seq', true), '')::bigint
  and e.seq <= nullif(current_setting('wakelog.last_seq', true), '')::bigint
  and ((select current_setting('wakelog.every_type', true)) = 'on'
       or l.type_id in (
           select t.type_id from wakelog.projection_types t
           where t.build_id = nullif(current_setting('wakelog.build', true), '')::integer));
