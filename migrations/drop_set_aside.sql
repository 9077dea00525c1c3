-- Functions that an upgrade has set aside a while ago, when calls of them may still have been under way (set_aside.sql).
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid from pg_catalog.pg_proc p
        where p.pronamespace = to_regnamespace('wakelog') and p.proname like '%\_set\_aside'
          and pg_catalog.obj_description(p.oid, 'pg_proc')::timestamptz < clock_timestamp() - interval '1 minute'
    loop
        execute pg_catalog.format('drop function %s', v_function);
    end loop;
end
$$;
