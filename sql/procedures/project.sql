-- Fold a projection whose fold is SQL up to where the log is now, in transactions of about 0.2 s, and let a build that
-- has caught up serve. What a worker does, for those who have none: call wakelog.project('name').
create or replace procedure wakelog.project(p_name text)
language plpgsql
as $$
declare
    v_build record;
    v_done record;
    v_window bigint;
    v_began timestamptz;
begin
    for v_build in
        select b.id, b.state from wakelog.projection_builds b
        join wakelog.projections p on p.id operator(pg_catalog.=) b.projection_id
        where p.id operator(pg_catalog.=) wakelog.projection_id(p_name) and b.kind operator(pg_catalog.=) 'sql'
          and not b.attended
          and (b.state operator(pg_catalog.=) 'building'
               or (b.state operator(pg_catalog.=) 'serving' and p.mode operator(pg_catalog.=) 'async'))
        order by b.id
    loop
        v_window := 1000;
        loop
            v_began := clock_timestamp();
            select * into strict v_done from wakelog.project_once(v_build.id, 0, v_window);
            commit;
            exit when v_done.p_to operator(pg_catalog.=) v_done.p_from
                   or v_done.p_to operator(pg_catalog.=) v_done.p_head;
            v_window := wakelog.next_window(v_window, extract(epoch from clock_timestamp() operator(pg_catalog.-) v_began)
                                                      ::double precision);
        end loop;
        if v_build.state operator(pg_catalog.=) 'building' then
            perform wakelog.hold_serving(v_build.id);
            perform wakelog.project_once(v_build.id);
            perform wakelog.serve_build(v_build.id);
            commit;
        end if;
    end loop;
end
$$;
