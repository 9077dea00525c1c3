-- The schema versions that either of two objects knows, by type: {"order.placed": [1, 2]}. Each once, the lowest first.
create or replace function wakelog.both_versions(p_one jsonb, p_other jsonb) returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
select coalesce(jsonb_object_agg(known.type, known.versions), '{}')
from (
    select each.type, jsonb_agg(distinct version order by version) as versions
    from (select * from jsonb_each(p_one) union all select * from jsonb_each(p_other)) as each (type, versions)
    cross join lateral jsonb_array_elements(each.versions) as version
    group by each.type
) known
$$;
