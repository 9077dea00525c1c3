-- Those of wakelog.new_events that belong to the part which the transaction folds, by the partition key of its projection:
-- each event to one part, and events with the same key to the same; those without such a value are all in the first.
-- The key is that of wakelog.order_key, written out, since a function would be called for each event.
create or replace view wakelog.new_events_of_part as
select n.*
from wakelog.new_events n
where (select nullif(current_setting('wakelog.part', true), '')::integer)
    = coalesce(
        abs(hashtext(
            case (select split_part(current_setting('wakelog.partition_by', true), '.', 1))
                when 'stream' then n.stream
                when 'source' then nullif(n.source, '')
                when 'correlation' then coalesce(n.correlation_id, n.id::text)
                when 'metadata' then n.metadata
                    #>> (select (string_to_array(current_setting('wakelog.partition_by', true), '.'))[2:])
                when 'payload' then n.payload
                    #>> (select (string_to_array(current_setting('wakelog.partition_by', true), '.'))[2:])
            end) % (select nullif(current_setting('wakelog.parts', true), '')::integer)),
        0);
