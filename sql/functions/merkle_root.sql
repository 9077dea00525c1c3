-- The root of the Merkle tree over hashes of 32 bytes, as RFC 6962 has it: a node is the hash of 1 and its two
-- children, and the last one of a level that has no partner goes up as it is.
create or replace function wakelog.merkle_root(p_leaves bytea) returns bytea
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_level bytea := p_leaves;
    v_count integer := length(p_leaves) / 32;
    v_left bytea;
begin
    while v_count > 1 loop
        v_left := case when v_count % 2 = 1 then substring(v_level from 32 * v_count - 31) else '' end;
        select string_agg(sha256('\x01'::bytea || substring(v_level from 64 * n + 1 for 64)), '' order by n) || v_left
        into v_level
        from generate_series(0, v_count / 2 - 1) as n;
        v_count := length(v_level) / 32;
    end loop;
    return v_level;
end
$$;
