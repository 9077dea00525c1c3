-- The second key of the lock that every process holds, shared, whose code folds this version of a projection.
create or replace function wakelog.code_key(p_projection_id integer, p_version integer) returns integer
language sql immutable strict parallel safe
return hashtext(p_projection_id::text || '/' || p_version::text);
