-- How many positions the next transaction is to fold, after one with p_window of them took so many seconds: towards
-- 0.2 s, at most eight times as many, and a million.
create or replace function wakelog.next_window(p_window bigint, p_seconds double precision) returns bigint
language sql immutable strict parallel safe
return greatest(1, least(1000000, (p_window * least(8, greatest(0.25, 0.2 / greatest(p_seconds, 0.001))))::bigint));
