-- The hash of a seal: over 2 and its fields, each with its type and length before it; the first 1 is the version of
-- this form. The next seal carries it.
create or replace function wakelog.seal_hash(p_seal wakelog.seals) returns bytea
language sql stable
begin atomic
    select sha256('\x02'::bytea || record_send(row(
        1, p_seal.number, p_seal.from_position, p_seal.to_position, p_seal.count, p_seal.root, p_seal.previous,
        p_seal.sealed_at)));
end;
