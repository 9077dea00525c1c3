-- The last version of a stream; 0 where there is no such stream.
create or replace function wakelog.stream_version(p_stream text) returns bigint
language sql volatile
begin atomic
    select coalesce(max(e.version), 0) from wakelog.events e where e.stream = p_stream;
end;
