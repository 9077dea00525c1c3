alter table wakelog.events add column deliver_after timestamptz
    constraint events_deliver_after_is_a_time check (deliver_after < '9999-12-30 00:00+00');

create index events_delayed on wakelog.events (deliver_after) where deliver_after is not null;

-- It has one argument more now.
drop function if exists wakelog.append(
    text, jsonb, text, bigint, text, text, jsonb, text, uuid, integer, timestamptz, uuid);
