-- What depends on the tables of a schema and lies elsewhere: views, which can be made anew, and other things.
create or replace function wakelog.outside_views(p_schema text)
returns table (view oid, name text, can_be_made_anew boolean)
language sql stable
begin atomic
    select distinct v.oid, format('%s.%I', v.relnamespace::regnamespace, v.relname), v.relkind = 'v'
    from pg_class t
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid
    join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    join pg_class v on v.oid = r.ev_class and v.relnamespace <> t.relnamespace
    where t.relnamespace = to_regnamespace(quote_ident(p_schema))
    union all
    select c.conrelid, c.conrelid::regclass::text, false
    from pg_class t
    join pg_constraint c on c.confrelid = t.oid and c.contype = 'f'
    join pg_class f on f.oid = c.conrelid and f.relnamespace <> t.relnamespace
    where t.relnamespace = to_regnamespace(quote_ident(p_schema));
end;
