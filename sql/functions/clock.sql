-- The time, as every rule about leases, retries and pauses sees it. Tests turn it with the setting
-- wakelog.clock_offset, for a session or (alter database) for everyone.
create or replace function wakelog.clock() returns timestamptz
language sql volatile parallel safe
return clock_timestamp()
    + coalesce(nullif(current_setting('wakelog.clock_offset', true), '')::interval, interval '0');
