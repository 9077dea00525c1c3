-- Declare a family closed, as code with models knows it: an object of the versions of each type,
-- {"order.placed": [1, 2]}; where p_only, there are no other types. Holds for inserts that begin after it has been
-- committed.
--
-- What is known already stays known, and what code has closed stays closed: in a rolling deploy programs that know more
-- and programs that know less start in any order. It is forgotten by declare_family(family, null).
create or replace function wakelog.close_family(p_family text, p_versions jsonb, p_only boolean default true) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_strange text;
    v_types text[];
    v_versions jsonb;
begin
    if not coalesce(
            jsonb_path_exists(p_versions, 'strict $ ? (@.type() == "object")')
            and not jsonb_path_exists(p_versions, 'strict $.* ? (@.type() != "array")', '{}', true), false) then
        raise exception 'expected an object of arrays of versions, found %', p_versions using errcode = 'WL006';
    end if;
    select t.type into v_strange from jsonb_object_keys(p_versions) as t (type)
    where t.type <> p_family and not starts_with(t.type, p_family || '.');
    if v_strange is not null then
        raise exception 'expected types that begin with "%", found "%"', p_family, v_strange using errcode = 'WL006';
    end if;
    insert into wakelog.families (family) values (p_family) on conflict do nothing;
    select f.types, f.versions into v_types, v_versions from wakelog.families f where f.family = p_family for update;
    if p_only then
        v_types := array(
            select t.type from unnest(v_types) as t (type) where v_versions is not null
            union
            select k.type from jsonb_object_keys(p_versions) as k (type)
            order by 1);
    end if;
    v_versions := wakelog.both_versions(v_versions, p_versions);
    -- A worker that starts with what is known already writes nothing.
    update wakelog.families f set types = v_types, versions = v_versions
    where f.family = p_family and (f.types, f.versions) is distinct from (v_types, v_versions);
    if found then
        perform setval('wakelog.guarded', 1);
    end if;
end
$$;
