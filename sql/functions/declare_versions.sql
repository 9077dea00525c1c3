-- Declare which schema versions there are of the types of a family that was declared with its types: an object of
-- arrays, {"order.placed": [1, 2]}; null for any. Holds for inserts that begin after it has been committed.
create or replace function wakelog.declare_versions(p_family text, p_versions jsonb) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_versions is not null and not coalesce(
            jsonb_path_exists(p_versions, 'strict $ ? (@.type() == "object")')
            and not jsonb_path_exists(p_versions, 'strict $.* ? (@.type() != "array")', '{}', true), false) then
        raise exception 'expected an object of arrays of versions, found %', p_versions using errcode = 'WL006';
    end if;
    update wakelog.families f set versions = p_versions
    where f.family = p_family and f.versions is distinct from p_versions;
end
$$;
