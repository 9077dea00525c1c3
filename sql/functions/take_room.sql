-- Take up to p_count rows of an agent's room, or of what it owes; returns how many there were.
--
-- A transaction goes on behind the last one it took, which it keeps in a setting of its own: its index still has those that
-- it has deleted, and to pass them each time made a bulk load quadratic. Where there are none behind, it begins anew.
create or replace function wakelog.take_room(p_agent_id integer, p_count bigint, p_owed boolean) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_setting constant text := 'wakelog.' || case when p_owed then 'owed_' else 'room_' end || p_agent_id;
    v_after bigint := nullif(current_setting(v_setting, true), '')::bigint;
    v_last bigint;
    v_count bigint := 0;
begin
    if v_after is not null then
        with taken as (
            delete from wakelog.room r
            where r.ctid = any (array(
                select f.ctid from wakelog.room f
                where f.agent_id = p_agent_id and f.owed = p_owed and f.id > v_after
                order by f.id nulls first limit p_count
                for update skip locked))
            returning r.id
        )
        select count(*), max(t.id) into v_count, v_last from taken t;
    end if;
    if v_count < p_count then
        with taken as (
            delete from wakelog.room r
            where r.ctid = any (array(
                select f.ctid from wakelog.room f
                where f.agent_id = p_agent_id and f.owed = p_owed
                order by f.id nulls first limit p_count - v_count
                for update skip locked))
            returning r.id
        )
        select v_count + count(*), coalesce(max(t.id), v_last) into v_count, v_last from taken t;
    end if;
    if v_last is not null then
        perform set_config(v_setting, v_last::text, true);
    end if;
    return v_count;
end
$$;
