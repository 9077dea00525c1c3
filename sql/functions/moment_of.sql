-- When the log reached a position; WL006 where it has not yet.
create or replace function wakelog.moment_of(p_position bigint) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_at timestamptz;
begin
    select l.sequenced_at into v_at from wakelog.log l where l.position = p_position;
    if v_at is null then
        raise exception 'expected a position from 1 to %, found %', wakelog.head(), p_position using errcode = 'WL006';
    end if;
    return v_at;
end
$$;
