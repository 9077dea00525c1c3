-- Make a projection known, or a new version of it; return the build that an application with this version is to
-- fold: null where a newer version serves, and this one is to be left alone.
--
-- p_options: tables (an array of statements that create them, without a schema), version (1), schema (where readers
-- find them; the name), kind (sql, event or batch), mode (async or inline), types (patterns; "#"), statements (for the
-- kind sql: they fold the rows of new_events), on_error (stop or skip), partition_by (as an agent's ordered_by).
-- A transaction of its own, please.
create or replace function wakelog.register_projection(p_name text, p_options jsonb) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_declared record;
    v_schema text := coalesce(p_options ->> 'schema', p_name);
begin
    select * into strict v_declared from wakelog.declare_projection(p_name, p_options);
    if v_declared.p_is_new then
        if to_regnamespace(quote_ident(v_schema)) is not null
           and not exists (select from wakelog.projection_builds b where b.schema = v_schema and b.state = 'serving')
        then
            raise exception 'expected a schema of its own for projection "%", found that "%" is there already',
                p_name, v_schema using errcode = 'WL006', hint = 'Name another one: schema=';
        end if;
        perform wakelog.make_tables(v_declared.p_build);
    end if;
    return v_declared.p_build;
end
$$;
