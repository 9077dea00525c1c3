-- The keys of these ids, for a session that may see keys; for any other, nothing. forgotten: there was one, and it
-- was destroyed.
create or replace function wakelog.keys_to_read(p_ids bigint[])
returns table (key_id bigint, key bytea, forgotten boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if has_table_privilege('wakelog.subject_keys', 'select') then
        return query select s.id, k.key, s.forgotten_at is not null
                     from wakelog.subjects s left join wakelog.subject_keys k on k.subject_id = s.id
                     where s.id = any (p_ids);
    end if;
end
$$;
