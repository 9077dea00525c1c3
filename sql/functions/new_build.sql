-- Enter a build that begins with the log, in a schema that is named after its projection unless p_build says
-- otherwise; its tables are to be made by wakelog.make_tables. Returns its id.
create or replace function wakelog.new_build(p_build wakelog.projection_builds) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer := nextval('wakelog.projection_builds_id_seq');
begin
    insert into wakelog.projection_builds (
        id, projection_id, version, state, attended, schema, kind, types, type_regex, partition_by, tables,
        statements, upto
    ) overriding system value
    select v_id, p.id, p_build.version, p_build.state, coalesce(p_build.attended, false),
           coalesce(p_build.schema, p.schema || '__' || v_id), p_build.kind, p_build.types,
           wakelog.patterns_regex(p_build.types, '.'), p_build.partition_by, p_build.tables, p_build.statements,
           p_build.upto
    from wakelog.projections p where p.id = p_build.projection_id;
    insert into wakelog.checkpoints (build_id) values (v_id);
    return v_id;
end
$$;
