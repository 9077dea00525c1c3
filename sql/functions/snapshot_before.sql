-- The last snapshot of a stream at or before a position, made by this version of a projection, and the version of the
-- first one after it; null where there is none, where there are no such tables, or where the caller may not read them.
create or replace function wakelog.snapshot_before(
    p_schema text, p_made_by integer, p_stream text, p_upto bigint,
    out p_version bigint, out p_position bigint, out p_next_version bigint, out p_state text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from pg_namespace n join pg_class c on c.relnamespace = n.oid and c.relname = 'snapshots'
        where n.nspname = p_schema and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
    ) then
        return;
    end if;
    execute format(
        $q$select last.version, last.position, next.version, last.state::text
           from (select s.version, s.position, s.state from %1$I.snapshots s
                 where s.stream = $1 and s.position <= $2 and s.made_by = $3
                 order by s.position desc limit 1) last
           left join lateral (
                select s.version from %1$I.snapshots s
                where s.stream = $1 and s.position > last.position and s.made_by = $3
                order by s.position limit 1) next on true$q$,
        p_schema)
    into p_version, p_position, p_next_version, p_state using p_stream, p_upto, p_made_by;
exception
    when undefined_table or undefined_column or invalid_schema_name then
        null;  -- another version took its place at this moment
end
$$;
