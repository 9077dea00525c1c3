-- Whether this database was sequenced in another cluster before it came here, from a dump or a copy.
create or replace function wakelog.is_restored() returns boolean
language sql stable
security definer
begin atomic
    select s.system_identifier <> c.system_identifier
    from wakelog.sequencer s cross join pg_control_system() c;
end;
