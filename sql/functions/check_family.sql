-- Refuse an event of a declared family whose type (WL009) or version (WL011) is not among those declared, or that no
-- agent wants where one must (WL010). What agents tell of their own outcomes is never refused.
--
-- A type may be known twice: an older program has closed it alone, a newer one its family, or the other way round. What
-- either of them knows of it is known, whichever starts first.
create or replace function wakelog.check_family(p_event wakelog.events) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_family wakelog.families;
    v_versions jsonb;
begin
    for v_family in
        select f.* from wakelog.families f
        where (p_event.type = f.family or starts_with(p_event.type, f.family || '.'))
          and not exists (select from wakelog.agents a
                          where p_event.type in (a.name || '.completed', a.name || '.failed'))
    loop
        v_versions := null;
        if v_family.versions is not null then
            v_versions := wakelog.known_versions(p_event.type);
        end if;
        if p_event.type <> all (v_family.types) and v_versions is null then
            raise exception 'expected a type of the family "%" (%), found "%"',
                v_family.family, array_to_string(v_family.types, ', '), p_event.type
                using errcode = 'WL009', hint = 'Mend the type, or declare it: app.family(...).';
        end if;
        if not coalesce(v_versions @> to_jsonb(p_event.schema_version), true) then
            raise exception 'expected version % of the type "%", found %',
                translate(v_versions::text, '[]', ''), p_event.type, p_event.schema_version
                using errcode = 'WL011', hint = 'Mend schema_version, or declare the version.';
        end if;
        if v_family.must_match and not exists (
            select from wakelog.agents a
            where (a.type_regex is null or '.' || p_event.type ~ a.type_regex) and wakelog.wants(a, p_event)
        ) then
            raise exception 'no agent wants this event of type "%", and in the family "%" one must',
                p_event.type, v_family.family
                using errcode = 'WL010', hint = 'See what agents want: wakelog agents list.';
        end if;
    end loop;
end
$$;
