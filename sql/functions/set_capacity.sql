-- Make room, or take it away, until the capacity is as an agent's options say. One that is bounded for the first time
-- begins with what it has unfinished already.
--
-- Taking and giving back change no sum: taken, plus room, less what is owed is the capacity so far, whatever
-- producers and workers do meanwhile.
create or replace function wakelog.set_capacity(p_agent wakelog.agents) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_more bigint;
    v_unfinished bigint[];
    v_cursor bigint;
begin
    if p_agent.capacity is null then
        delete from wakelog.slots s where s.agent_id = p_agent.id;
        delete from wakelog.room r where r.agent_id = p_agent.id;
        delete from wakelog.dropped x where x.agent_id = p_agent.id;
        return;
    end if;
    perform setval('wakelog.guarded', 1);
    v_more := p_agent.capacity - (
        (select count(*) from wakelog.slots s where s.agent_id = p_agent.id)
        + (select count(*) filter (where not r.owed) - count(*) filter (where r.owed)
           from wakelog.room r where r.agent_id = p_agent.id));
    if v_more < 0 then
        v_more := v_more + wakelog.take_room(p_agent.id, -v_more, false);
    elsif v_more > 0 and v_more < p_agent.capacity then
        v_more := v_more - wakelog.take_room(p_agent.id, v_more, true);
    end if;
    insert into wakelog.room (agent_id, owed)
    select p_agent.id, v_more < 0 from generate_series(1, abs(v_more));

    if v_more = p_agent.capacity then
        v_cursor := (select c.position from wakelog.cursors c where c.agent_id = p_agent.id
                     order by c.moved desc limit 1);
        v_unfinished := array(
            select u.position from (
                select d.position from wakelog.deliveries d where d.agent_id = p_agent.id
                union all
                select wakelog.wanted_positions(
                    p_agent, v_cursor, wakelog.head(), p_agent.capacity)
            ) u
            order by u.position limit p_agent.capacity);
        perform wakelog.take_room(p_agent.id, cardinality(v_unfinished), false);
        insert into wakelog.slots (agent_id, seq)
        select p_agent.id, l.seq from wakelog.log l where l.position = any (v_unfinished);
    end if;
end
$$;
