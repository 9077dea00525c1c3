-- Which of p_parts parts an event belongs to, by the key that its projection is partitioned by; those without such a
-- value are all in the first.
create or replace function wakelog.part_of(p_by text, p_event wakelog.events, p_parts integer) returns integer
language sql stable
begin atomic
    select coalesce(abs(hashtext(wakelog.order_key(p_by, p_event)) % p_parts), 0);
end;
