-- Wait p_gather seconds, so that events gather, and look; where many are found, again, for p_seconds at most. The wait
-- doubles up to 0.02 s while they are many, since each run costs producers' processor time, and is 0.002 s afterwards.
-- p_rung, p_found and p_due_in are those of the last look (wakelog.look).
-- One statement: a round trip for each look took as much processor time as the look.
create or replace procedure wakelog.look_on(
    p_seconds double precision, inout p_gather double precision, inout p_rung bigint,
    inout p_found bigint default null, inout p_due_in double precision default null
)
language plpgsql
as $$
declare
    v_until constant timestamptz :=
        pg_catalog.clock_timestamp() operator(pg_catalog.+) pg_catalog.make_interval(secs => p_seconds);
begin
    loop
        perform pg_catalog.pg_sleep(p_gather);
        call wakelog.look(false, p_rung, p_found, p_due_in);
        commit;
        if coalesce(p_found, 0) operator(pg_catalog.<) 10 then
            p_gather := 0.002;
            return;
        end if;
        p_gather := least(p_gather operator(pg_catalog.*) 2, 0.02);
        exit when pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_until;
    end loop;
end
$$;
