-- Those of some events whose places newer ones have taken; they are no longer listed as such.
create or replace function wakelog.take_dropped(p_agent_id integer, p_seqs bigint[]) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_rows tid[] := array(
        select listed.ctid from unnest(p_seqs) as s (seq)
        cross join lateral (
            select x.ctid from wakelog.dropped x where x.agent_id = p_agent_id and x.seq = s.seq offset 0) listed);
    v_taken bigint[] := '{}'::bigint[];
begin
    if v_rows <> '{}' then
        with taken as (
            delete from wakelog.dropped x where x.ctid = any (v_rows) returning x.seq
        )
        select coalesce(array_agg(t.seq), '{}') into v_taken from taken t;
    end if;
    return v_taken;
end
$$;
