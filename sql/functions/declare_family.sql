-- Declare what holds for the types that begin with these words: which there are (null for any), and whether an agent
-- must want each event. Holds for inserts that begin after it has been committed; with neither, nothing holds any more.
-- The types of a family that code has closed (close_family) are forgotten only so; others come to them, and null for any
-- leaves them as they are.
create or replace function wakelog.declare_family(p_family text, p_types text[], p_must_match boolean default false)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_strange text;
begin
    select t.type into v_strange from unnest(p_types) as t (type)
    where t.type <> p_family and not starts_with(t.type, p_family || '.');
    if v_strange is not null then
        raise exception 'expected types that begin with "%", found "%"', p_family, v_strange using errcode = 'WL006';
    end if;
    if p_types is null and not p_must_match then
        delete from wakelog.families f where f.family = p_family;
        return;
    end if;
    insert into wakelog.families as f (family, types, must_match) values (p_family, p_types, p_must_match)
    on conflict (family) do update set
        types = case when f.versions is null then excluded.types
                     when excluded.types is null then f.types
                     else array(select t.type from unnest(f.types || excluded.types) as t (type) group by 1 order by 1) end,
        must_match = excluded.must_match
    where f.must_match <> excluded.must_match
       or case when f.versions is null then f.types is distinct from excluded.types
               else not coalesce(f.types @> excluded.types, excluded.types is null) end;
    perform setval('wakelog.guarded', 1);
end
$$;
