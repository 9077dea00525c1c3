-- First keys of the advisory locks Wakelog takes; the second key is 0, the id of a worker or of a projection's build, or
-- the hash of a stream's name, or of a projection and its version. All begin at 'wake' in ASCII, to keep clear of an
-- application's own locks.
create or replace function wakelog.lock_space(p_of text) returns integer
language sql immutable strict parallel safe
return case p_of
    when 'beacon' then 2002873189
    when 'doorkeeper' then 2002873190
    when 'sequencer' then 2002873191
    when 'worker' then 2002873192
    when 'stream' then 2002873193
    when 'streams' then 2002873195
    when 'sealer' then 2002873199
    when 'upgrade' then 2002873194
    when 'projection' then 2002873201
    when 'projection code' then 2002873202
end;
