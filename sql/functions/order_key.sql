-- What an event's place in line is decided by; null, which stands in no line, where the event has no such value.
create or replace function wakelog.order_key(p_ordered_by text, p_event wakelog.events) returns text
language sql stable
begin atomic
    select case split_part(p_ordered_by, '.', 1)
        when 'stream' then p_event.stream
        when 'source' then nullif(p_event.source, '')
        when 'correlation' then coalesce(p_event.correlation_id, p_event.id::text)
        when 'metadata' then p_event.metadata #>> (string_to_array(p_ordered_by, '.'))[2:]
        when 'payload' then p_event.payload #>> (string_to_array(p_ordered_by, '.'))[2:]
    end;
end;
