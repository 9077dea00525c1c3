-- What a projection is to fold next: in the transaction that begins with wakelog.begin_projecting, the events of its
-- range that it wants; nothing anywhere else. Inline projections see the inserted rows under the same name, which
-- have all columns but position and sequenced_at.
-- The bounds are settings and no parameters, so that the planner knows them. What is asked once for all rows is a
-- boolean, which it takes to be as likely as not; of a comparison it would expect that hardly a row is left.
--
-- Where a build is folded in parts, they are those that belong to the part which the transaction folds, by the partition
-- key of the projection: each event to one part, and events with the same key to the same; those without such a value are
-- all in the first. The key is that of wakelog.order_key, written out, since a function would be called for each event.
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
  and ((select current_setting('wakelog.every_type', true) = 'on')
       or l.type_id in (
           select t.type_id from wakelog.projection_types t
           where t.build_id = nullif(current_setting('wakelog.build', true), '')::integer))
  and ((select current_setting('wakelog.parts', true) = '1')
       or (select nullif(current_setting('wakelog.part', true), '')::integer)
        = coalesce(
            abs(hashtext(
                case (select split_part(current_setting('wakelog.partition_by', true), '.', 1))
                    when 'stream' then e.stream
                    when 'source' then nullif(e.source, '')
                    when 'correlation' then coalesce(e.correlation_id, e.id::text)
                    when 'metadata' then e.metadata
                        #>> (select (string_to_array(current_setting('wakelog.partition_by', true), '.'))[2:])
                    when 'payload' then e.payload
                        #>> (select (string_to_array(current_setting('wakelog.partition_by', true), '.'))[2:])
                end) % (select nullif(current_setting('wakelog.parts', true), '')::integer)),
            0));
