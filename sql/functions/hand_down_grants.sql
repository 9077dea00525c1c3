-- Grant what was granted on a schema, and on the relations in it, on those of the same names in another.
create or replace function wakelog.hand_down_grants(p_from text, p_to text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_grant record;
begin
    -- Privileges and kinds come from the catalog: @plpgsql_check_options: security_warnings = false
    for v_grant in
        select 'schema' as kind, format('%I', p_to) as thing, a.*
        from pg_namespace n cross join lateral aclexplode(n.nspacl) a
        where n.nspname = p_from and a.grantee <> n.nspowner
        union all
        select case c.relkind when 'S' then 'sequence' else 'table' end, format('%I.%I', p_to, c.relname), a.*
        from pg_class c
        join pg_class t on t.relname = c.relname and t.relnamespace = to_regnamespace(quote_ident(p_to))
                       and (t.relkind = 'S') = (c.relkind = 'S')
        cross join lateral aclexplode(c.relacl) a
        where c.relnamespace = to_regnamespace(quote_ident(p_from)) and c.relkind in ('r', 'p', 'v', 'm', 'S')
          and a.grantee <> c.relowner
    loop
        execute format('grant %s on %s %s to %s', v_grant.privilege_type, v_grant.kind, v_grant.thing,
                       case v_grant.grantee when 0 then 'public' else v_grant.grantee::regrole::text end);
    end loop;
end
$$;
