-- Have the doorkeeper seal the log, every so often (null: as before), or not. It looks each time before it seals.
create or replace function wakelog.set_sealing(p_enabled boolean, p_every interval default null) returns void
language sql volatile
begin atomic
    update wakelog.sealing s set enabled = p_enabled, every = coalesce(p_every, s.every);
end;
