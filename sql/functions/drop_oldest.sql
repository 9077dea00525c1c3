-- Let a new event take the slot of the oldest one that has not been handed out, which the agent will not be given.
-- False where all are being worked on.
--
-- A transaction goes on behind the last one it dropped, as in wakelog.take_room; where there is none behind, it begins anew.
create or replace function wakelog.drop_oldest(p_agent_id integer, p_seq bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_setting constant text := 'wakelog.dropped_' || p_agent_id;
    v_behind bigint := nullif(current_setting(v_setting, true), '')::bigint;
    v_oldest bigint;
begin
    loop
        select s.seq into v_oldest from wakelog.slots s
        left join wakelog.log l on l.seq = s.seq
        where s.agent_id = p_agent_id and s.seq > coalesce(v_behind, 0)
          and not exists (select from wakelog.deliveries d
                          where d.agent_id = p_agent_id and d.position = l.position and d.worker is not null)
        order by s.seq limit 1
        for update of s skip locked;
        exit when found;
        if v_behind is null then
            return false;
        end if;
        v_behind := null;
    end loop;
    delete from wakelog.slots s where s.agent_id = p_agent_id and s.seq = v_oldest;
    insert into wakelog.dropped (agent_id, seq) values (p_agent_id, v_oldest) on conflict do nothing;
    insert into wakelog.slots (agent_id, seq) values (p_agent_id, p_seq);
    perform set_config(v_setting, v_oldest::text, true);
    return true;
end
$$;
