-- Let a build take the place of what serves: readers find its tables under the projection's schema from the commit on.
-- After wakelog.hold_serving, and folded as far as what serves, in the same transaction. False where that may not be:
-- an application with the older version still lives, or the build is behind.
--
-- Two schemas are renamed, which locks no table: no reader is waited for, and none waits. What was granted on the old
-- tables is granted on the new ones; views elsewhere that read them are made anew, or nothing changes.
create or replace function wakelog.serve_build(p_build integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_build wakelog.projection_builds;
    v_old wakelog.projection_builds;
    v_projection wakelog.projections;
    v_retired text;
    v_views text[];
    v_view text;
    v_trigger text;
begin
    select b.* into strict v_build from wakelog.projection_builds b where b.id = p_build;
    select p.* into strict v_projection from wakelog.projections p where p.id = v_build.projection_id;
    select b.* into v_old from wakelog.projection_builds b
    where b.projection_id = v_projection.id and b.state = 'serving';
    if v_build.state <> 'building' then
        return false;
    end if;
    if v_old.id is not null then
        if v_old.version <> v_build.version and not pg_try_advisory_xact_lock(
               wakelog.lock_space('projection code'), wakelog.code_key(v_projection.id, v_old.version)) then
            return false;
        end if;
        if v_projection.mode = 'async'
           and (select min(c.position) from wakelog.checkpoints c where c.build_id = v_build.id)
               < (select min(c.position) from wakelog.checkpoints c where c.build_id = v_old.id) then
            return false;
        end if;
        if exists (select from wakelog.outside_views(v_old.schema) o where not o.can_be_made_anew) then
            raise exception 'projection "%" cannot take another''s place: % depends on its tables', v_projection.name,
                (select string_agg(o.name, ', ') from wakelog.outside_views(v_old.schema) o where not o.can_be_made_anew)
                using errcode = 'WL006', hint = 'Drop that, or make it in the projection''s own schema (tables=).';
        end if;
        v_views := array(
            select format('create or replace view %s %s as %s', o.name,
                          'with (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(o.view))
            from wakelog.outside_views(v_old.schema) o join pg_class c on c.oid = o.view where c.reloptions is not null
            union all
            select format('create or replace view %s as %s', o.name, pg_get_viewdef(o.view))
            from wakelog.outside_views(v_old.schema) o join pg_class c on c.oid = o.view where c.reloptions is null);
        v_retired := v_projection.schema || '__' || v_old.id;
        execute format('alter schema %I rename to %I', v_old.schema, v_retired);
        perform wakelog.hand_down_grants(v_retired, v_build.schema);
    end if;
    execute format('alter schema %I rename to %I', v_build.schema, v_projection.schema);
    foreach v_view in array coalesce(v_views, '{}') loop
        execute v_view;
    end loop;
    if v_projection.mode = 'inline' then
        v_trigger := 'projection_' || v_projection.id;
        execute format('drop trigger if exists %I on wakelog.events', v_trigger);
        execute format(
            'create trigger %I after insert on wakelog.events referencing new table as new_events '
            'for each statement execute function wakelog.project_inline(%L, %L, %s)',
            v_trigger, v_build.id, v_projection.schema,
            (select string_agg(format('%L', s.statement), ', ' order by s.n)
             from unnest(v_build.statements) with ordinality as s (statement, n)));
    end if;
    perform wakelog.mark_served(p_build, v_retired);
    return true;
end
$$;
