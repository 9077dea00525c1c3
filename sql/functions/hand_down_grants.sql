-- Let those who may read the tables in a schema read those of the same names in another: usage of the schema, select on
-- tables and views. Nobody but the fold writes to them, so nothing else is carried over.
create or replace function wakelog.hand_down_grants(p_from text, p_to text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reader record;
begin
    for v_reader in
        select a.grantee from pg_namespace n cross join lateral aclexplode(n.nspacl) a
        where n.nspname = p_from and a.privilege_type = 'USAGE' and a.grantee <> n.nspowner
    loop
        execute case v_reader.grantee
            when 0 then format('grant usage on schema %I to public', p_to)
            else format('grant usage on schema %I to %I', p_to, pg_get_userbyid(v_reader.grantee)) end;
    end loop;
    for v_reader in
        select t.relname, a.grantee
        from pg_class c
        join pg_class t on t.relname = c.relname and t.relnamespace = to_regnamespace(quote_ident(p_to))
                       and t.relkind in ('r', 'p', 'v', 'm')
        cross join lateral aclexplode(c.relacl) a
        where c.relnamespace = to_regnamespace(quote_ident(p_from)) and c.relkind in ('r', 'p', 'v', 'm')
          and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    loop
        execute case v_reader.grantee
            when 0 then format('grant select on %I.%I to public', p_to, v_reader.relname)
            else format('grant select on %I.%I to %I', p_to, v_reader.relname, pg_get_userbyid(v_reader.grantee)) end;
    end loop;
end
$$;
