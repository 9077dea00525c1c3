-- Seal the next events of the log, p_limit at most; returns how many, or null when another session is at it.
--
-- It reads what has its position already, so it holds up nobody and nobody holds it up; one at a time, and each seal
-- follows the last one. Committed durably: a seal that somebody has taken home must not be gone after a crash.
--
-- Raises WL016 where an event that has a position is not there: then somebody removed it, and nothing is sealed over
-- the gap.
create or replace function wakelog.seal(p_limit integer default 4096) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set client_encoding = 'UTF8'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    v_last wakelog.seals;
    v_new wakelog.seals;
begin
    if not pg_try_advisory_xact_lock(wakelog.lock_space('sealer'), 0) then
        return null;
    end if;
    select * into v_last from wakelog.seals s order by s.number desc limit 1;
    v_new.number := coalesce(v_last.number, 0) + 1;
    v_new.previous := coalesce(v_last.hash, decode(repeat('00', 32), 'hex'));
    v_new.from_position := coalesce(v_last.to_position, 0) + 1;
    v_new.to_position := least(wakelog.head(), v_new.from_position + p_limit - 1);
    v_new.count := v_new.to_position - v_new.from_position + 1;
    if v_new.count <= 0 then
        return 0;
    end if;

    select string_agg(sha256('\x00'::bytea || wakelog.event_record(l, e)), '' order by l.position) into v_new.leaves
    from wakelog.log l join wakelog.events e on e.seq = l.seq
    where l.position between v_new.from_position and v_new.to_position;

    if coalesce(length(v_new.leaves), 0) <> 32 * v_new.count then
        raise exception 'expected % events at positions % to %, found %', v_new.count, v_new.from_position,
            v_new.to_position, coalesce(length(v_new.leaves), 0) / 32
            using errcode = 'WL016', hint = 'Somebody removed what had its position. See: wakelog verify';
    end if;

    perform wakelog.commit_durably();
    v_new.root := wakelog.merkle_root(v_new.leaves);
    v_new.sealed_at := wakelog.log_clock();
    v_new.hash := wakelog.seal_hash(v_new);
    insert into wakelog.seals values (v_new.*);
    return v_new.count;
end
$$;
