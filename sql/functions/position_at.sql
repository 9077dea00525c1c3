-- The last position the log had at a moment; 0 before the first. A binary search, since sequenced_at never
-- decreases with position.
create or replace function wakelog.position_at(p_at timestamptz) returns bigint
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_low bigint := 0;
    v_high bigint := wakelog.head();
    v_middle bigint;
begin
    while v_low < v_high loop
        v_middle := (v_low + v_high + 1) / 2;
        if (select l.sequenced_at <= p_at from wakelog.log l where l.position = v_middle) then
            v_low := v_middle;
        else
            v_high := v_middle - 1;
        end if;
    end loop;
    return v_low;
end
$$;
