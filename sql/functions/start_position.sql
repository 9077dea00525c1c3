-- The cursor of an agent that starts at p_start: "now", "beginning", the first position wanted, or a time.
create or replace function wakelog.start_position(p_start jsonb) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    case
        when p_start = '"beginning"' then
            return 0;
        when p_start = '"now"' then
            return wakelog.head();
        when jsonb_typeof(p_start) = 'number' then
            return greatest((p_start #>> '{}')::bigint - 1, 0);
        else
            return wakelog.position_at((p_start #>> '{}')::timestamptz);
    end case;
end
$$;
