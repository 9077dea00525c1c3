-- Four roles for applications to be granted; none can log in. Roles belong to the whole cluster, so
-- another database may have made them, at this very moment too. Where the migrating account may not
-- create roles (managed Postgres), the schema works without them and grants are made by hand.
do $$
declare
    v_role text;
begin
    foreach v_role in array array['wakelog_writer', 'wakelog_reader', 'wakelog_worker', 'wakelog_keys'] loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
                execute pg_catalog.format('create role %I nologin', v_role);
            end if;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise warning 'role % was not created: % may not create roles', v_role, current_user;
        end;
    end loop;
end
$$;
