-- The last version of a stream; 0 where there is no such stream.
--
-- A transaction that appends many events keeps the plan it began with, made when the log may have had a few rows only.
-- Without sorting there is one way that is not disabled: backwards through the index.
create or replace function wakelog.stream_version(p_stream text) returns bigint
language sql volatile
set enable_sort = off
begin atomic
    select coalesce((
        select e.version from wakelog.events e
        where e.stream = p_stream and e.version is not null
        order by e.version desc
        limit 1), 0);
end;
