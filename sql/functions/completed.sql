-- The event that tells an agent's result, as wakelog.emit takes it.
create or replace function wakelog.completed(p_agent text, p_position bigint, p_result jsonb) returns jsonb
language sql immutable
begin atomic
    select jsonb_build_object('position', p_position, 'key', 'completed', 'type', p_agent || '.completed',
                              'payload', p_result);
end;
