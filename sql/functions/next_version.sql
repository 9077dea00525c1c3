-- Trigger: an event that names its stream and no version gets the stream's next one.
--
-- seq is drawn again once the stream is locked: drawn before, it could be lower than that of the version
-- before, and the log would show the two in the wrong order.
create or replace function wakelog.next_version() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform wakelog.lock_stream(new.stream);
    new.version := wakelog.stream_version(new.stream) + 1;
    new.seq := nextval('wakelog.events_seq_seq');
    return new;
end
$$;
