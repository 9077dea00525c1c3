-- Let a new event take the slot of the oldest one that has not been handed out, which the agent will not be given.
-- False where all are being worked on.
create or replace function wakelog.drop_oldest(p_agent_id integer, p_seq bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_oldest wakelog.slots;
begin
    select s.* into v_oldest from wakelog.slots s
    left join wakelog.log l on l.seq = s.seq
    where s.agent_id = p_agent_id and s.seq is not null
      and not exists (select from wakelog.deliveries d
                      where d.agent_id = p_agent_id and d.position = l.position and d.worker is not null)
    order by s.seq limit 1
    for update of s skip locked;
    if not found then
        return false;
    end if;
    insert into wakelog.dropped (agent_id, seq) values (p_agent_id, v_oldest.seq) on conflict do nothing;
    update wakelog.slots s set seq = p_seq where s.agent_id = p_agent_id and s.slot = v_oldest.slot;
    return true;
end
$$;
