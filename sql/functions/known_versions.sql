-- The schema versions of a type that programs have closed it with, alone or in a family, as an array, [1, 2]; null where
-- none has.
create or replace function wakelog.known_versions(p_type text) returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select case when count(f.family) > 0 then
           coalesce(jsonb_agg(distinct v.version order by v.version) filter (where v.version is not null), '[]') end
from wakelog.families f
left join lateral jsonb_array_elements(f.versions -> p_type) as v (version) on true
where f.versions -> p_type is not null
$$;
