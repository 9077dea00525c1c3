-- A version 7 UUID (RFC 9562): 48 bits of milliseconds, then random; new ids land at the right edge of
-- their index. Postgres 18 has its own; this one serves 14 to 17 as well.
create or replace function wakelog.uuid7() returns uuid
language sql volatile parallel safe
return encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;
