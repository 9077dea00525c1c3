-- Enter a projection, or a new version of it; return the build that an application with this version is to fold, and
-- whether it is new and has no tables yet. No build where the application is older than what serves.
-- What is declared of one version stays: other SQL under the same version is refused (WL006).
create or replace function wakelog.declare_projection(
    p_name text, p_options jsonb, out p_build integer, out p_is_new boolean
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wanted wakelog.projection_builds := wakelog.projection_from_options(p_name, p_options);
    v_mode text := coalesce(p_options ->> 'mode', 'async');
    v_schema text := coalesce(p_options ->> 'schema', p_name);
    v_projection wakelog.projections;
    v_found wakelog.projection_builds;
begin
    p_is_new := false;
    insert into wakelog.projections as p (name, schema, mode, on_error)
    values (p_name, v_schema, v_mode, coalesce(p_options ->> 'on_error', 'stop'))
    on conflict (name) do update set on_error = excluded.on_error
    returning p.* into v_projection;
    if v_projection.schema <> v_schema or v_projection.mode <> v_mode then
        raise exception 'projection "%" is %, in schema "%": expected the same, found % and "%"',
            p_name, v_projection.mode, v_projection.schema, v_mode, v_schema
            using errcode = 'WL006', hint = format('To change it: wakelog projection drop %s', p_name);
    end if;

    select b.* into v_found from wakelog.projection_builds b
    where b.projection_id = v_projection.id and b.version = v_wanted.version and b.state in ('serving', 'building')
    order by b.state = 'serving' desc, b.id desc limit 1;
    if found then
        if (v_found.kind, v_found.tables, v_found.statements, v_found.types)
           is distinct from (v_wanted.kind, v_wanted.tables, v_wanted.statements, v_wanted.types) then
            raise exception 'projection "%" version % is not what it was when its tables were made', p_name,
                v_wanted.version
                using errcode = 'WL006', hint = format(
                    'Raise its version to %s, and it is built anew beside the old one.', v_wanted.version + 1);
        end if;
        if v_found.partition_by is distinct from v_wanted.partition_by then
            update wakelog.projection_builds b set partition_by = v_wanted.partition_by where b.id = v_found.id;
        end if;
        p_build := v_found.id;
        return;
    end if;
    if v_wanted.version < (select max(b.version) from wakelog.projection_builds b
                           where b.projection_id = v_projection.id and b.state in ('serving', 'building')) then
        return;
    end if;
    v_wanted.projection_id := v_projection.id;
    v_wanted.state := 'building';
    p_build := wakelog.new_build(v_wanted);
    p_is_new := true;
end
$$;
