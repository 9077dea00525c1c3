-- A key of 256 bits: the hash of three random UUIDs, which hold 366 from the server's strong source.
create or replace function wakelog.new_key() returns bytea
language sql volatile
return sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
