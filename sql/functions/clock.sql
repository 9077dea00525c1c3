-- The time, as every rule about leases, retries and pauses sees it. Tests turn it (wakelog.clock_offset). As cheap as it
-- can be asked whether that is so: this is called many times for each delivery.
create or replace function wakelog.clock() returns timestamptz
language sql volatile parallel safe
return case
    when current_setting('wakelog.clock_offset', true) <> '' then clock_timestamp() + wakelog.clock_offset()
    else clock_timestamp()
end;
