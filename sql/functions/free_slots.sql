-- Events of a bounded agent are finished: there is room for others, unless it is owed. Their slots are looked up one by one:
-- there may be a hundred thousand others.
create or replace function wakelog.free_slots(p_agent wakelog.agents, p_positions bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_seqs bigint[];
    v_rows tid[];
    v_count bigint;
begin
    if p_agent.capacity is null then
        return;
    end if;
    v_seqs := array(select l.seq from wakelog.log l where l.position = any (p_positions));
    v_rows := array(
        select held.ctid from unnest(v_seqs) as f (seq)
        cross join lateral (
            select s.ctid from wakelog.slots s where s.agent_id = p_agent.id and s.seq = f.seq offset 0) held);
    delete from wakelog.slots s where s.ctid = any (v_rows);
    get diagnostics v_count = row_count;
    -- One that was dropped while it was being handed out has been worked on after all.
    perform wakelog.take_dropped(p_agent.id, v_seqs);
    v_count := v_count - wakelog.take_room(p_agent.id, v_count, true);
    insert into wakelog.room (agent_id) select p_agent.id from generate_series(1, v_count);
end
$$;
