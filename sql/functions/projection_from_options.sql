-- Read a projection's options into a build; WL006 for one that is unknown or unusable.
create or replace function wakelog.projection_from_options(p_name text, p_options jsonb)
returns wakelog.projection_builds
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_build wakelog.projection_builds;
    v_unknown text;
begin
    select string_agg(k.key, ', ') into v_unknown
    from jsonb_object_keys(p_options) as k (key)
    where k.key not in ('schema', 'version', 'kind', 'mode', 'types', 'tables', 'statements', 'on_error',
                        'partition_by');
    if v_unknown is not null then
        raise exception 'projection "%" has options that are not known: %', p_name, v_unknown
            using errcode = 'WL006';
    end if;
    v_build.version := coalesce((p_options ->> 'version')::integer, 1);
    v_build.types := coalesce(wakelog.text_array(p_options -> 'types'), '{#}');
    v_build.tables := coalesce(wakelog.text_array(p_options -> 'tables'), '{}');
    v_build.statements := coalesce(wakelog.text_array(p_options -> 'statements'), '{}');
    v_build.kind := coalesce(p_options ->> 'kind', 'sql');
    v_build.partition_by := p_options ->> 'partition_by';
    if v_build.partition_by !~ '^(stream|correlation|source|(metadata|payload)(\.[^.]+)+)$' then
        raise exception 'projection "%" partition_by: expected stream, correlation, source, metadata.<path> or payload.<path>, found "%"',
            p_name, v_build.partition_by using errcode = 'WL006';
    end if;
    if v_build.tables = '{}' then
        raise exception 'projection "%" must say which tables it has: statements that create them', p_name
            using errcode = 'WL006';
    end if;
    if (v_build.kind = 'sql') <> (v_build.statements <> '{}') then
        raise exception 'projection "%": expected statements for the kind sql and for no other, found kind % and % statements',
            p_name, v_build.kind, cardinality(v_build.statements) using errcode = 'WL006';
    end if;
    if p_options ->> 'mode' = 'inline' and v_build.partition_by is not null then
        raise exception 'projection "%": expected no partition_by for an inline projection', p_name
            using errcode = 'WL006', hint = 'Producers fold it, each its own events.';
    end if;
    if p_options ->> 'mode' = 'inline' and v_build.kind <> 'sql' then
        raise exception 'projection "%": expected statements in SQL for an inline projection, found functions', p_name
            using errcode = 'WL006', hint = 'Only SQL can run in the transaction of any producer.';
    end if;
    if p_options ->> 'mode' = 'inline' and p_options ->> 'on_error' = 'skip' then
        raise exception 'projection "%": expected on_error stop for an inline projection, found skip', p_name
            using errcode = 'WL006', hint = 'A statement may insert many events, of which one cannot be left out.';
    end if;
    return v_build;
end
$$;
