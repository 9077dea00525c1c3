-- Let one transaction at a time give out versions of a stream. Streams share 4,096 stripes, so that a
-- bulk load of any number of streams does not fill the lock table.
create or replace function wakelog.lock_stream(p_stream text) returns void
language sql volatile strict
begin atomic
    select pg_advisory_xact_lock(wakelog.lock_space('stream'), hashtext(p_stream) & 4095);
end;
