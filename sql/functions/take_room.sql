-- Take up to p_count rows of an agent's room, or of what it owes; returns how many there were.
create or replace function wakelog.take_room(p_agent_id integer, p_count bigint, p_owed boolean) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    delete from wakelog.room r
    where r.ctid = any (array(
        select f.ctid from wakelog.room f
        where f.agent_id = p_agent_id and f.owed = p_owed
        limit p_count
        for update skip locked));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
