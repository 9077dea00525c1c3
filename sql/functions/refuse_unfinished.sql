-- Trigger, at commit: a transaction that began to fold has said how far it came, or does not commit. So a function
-- that commits by itself cannot leave rows without their checkpoint.
create or replace function wakelog.refuse_unfinished() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from wakelog.checkpoints c
               where c.build_id = new.build_id and c.part = new.part and c.busy) then
        raise exception 'a projection''s transaction was about to be committed before it was finished'
            using errcode = 'WL013', hint = 'Its function must not commit; Wakelog does, with the checkpoint.';
    end if;
    return null;
end
$$;
