-- Lock several streams in the one order that all keep to, so that two transactions which append to the same
-- ones do not wait for each other.
create or replace function wakelog.lock_streams(p_streams text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stream text;
begin
    for v_stream in
        select min(s.stream) from unnest(p_streams) as s (stream)
        where s.stream is not null
        group by hashtext(s.stream)
        order by hashtext(s.stream)
    loop
        perform wakelog.lock_stream(v_stream);
    end loop;
end
$$;
