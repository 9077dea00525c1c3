-- Make the schema and the tables of a build, as the caller, who then owns them. What is to run inline is planned once,
-- with what it finds in the transaction of a producer, so that it does not fail there first.
create or replace function wakelog.make_tables(p_build integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_build wakelog.projection_builds;
    v_statement text;
begin
    select b.* into strict v_build from wakelog.projection_builds b where b.id = p_build;
    execute format('create schema %I', v_build.schema);
    perform set_config('search_path', format('%I, public, wakelog, pg_temp', v_build.schema), true);
    foreach v_statement in array v_build.tables loop
        execute v_statement;
    end loop;
    if (select p.mode from wakelog.projections p where p.id = v_build.projection_id) = 'inline' then
        create temporary table new_events (like wakelog.events);
        perform set_config('search_path', format('%I, pg_temp', v_build.schema), true);
        foreach v_statement in array v_build.statements loop
            execute 'explain ' || v_statement;
        end loop;
        drop table pg_temp.new_events;
    end if;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
end
$$;
