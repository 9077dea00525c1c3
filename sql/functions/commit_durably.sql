-- Have this transaction wait for the disk, in a session that does without.
create or replace function wakelog.commit_durably() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
end
$$;
