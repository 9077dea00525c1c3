-- Functions that a revision drops, renamed before the revisions run: a call that is under way and waits for the upgrade
-- goes on with the one it began with, while later calls find today's. Gone with a later upgrade (drop_set_aside.sql).
do $$
declare
    v_function regprocedure;
    v_name text;
begin
    for v_function, v_name in
        select p.oid, p.proname || '_set_aside'
        from unnest(array[
            -- 0002
            'wakelog.append(text, jsonb, text, bigint, text, text, jsonb, text, uuid, integer, timestamptz, uuid)'
        ]) as s (signature)
        join pg_catalog.pg_proc p on p.oid = to_regprocedure(s.signature)
    loop
        execute pg_catalog.format('alter function %s rename to %I', v_function, v_name);
        execute pg_catalog.format('comment on function %s is %L', v_function, clock_timestamp());
    end loop;
end
$$;
