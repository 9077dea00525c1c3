-- Forget a subject: destroy its key, so that what events say of it can never be read again, and see to it that there
-- is never another. Waits for transactions that are writing about it. Returns false where it was forgotten before.
--
-- The events stay as they are, and verify. Old versions of the key stay in the table's file until a vacuum, and in
-- backups and archived WAL for as long as those are kept: docs/forgetting.md.
--
-- Raises WL018 where nothing personal was ever written about such a subject.
create or replace function wakelog.forget(p_subject text) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subject wakelog.subjects;
begin
    -- Where another transaction is about to make this subject, it is waited for here.
    insert into wakelog.subjects (subject) values (p_subject) on conflict do nothing returning * into v_subject;
    if found then
        raise exception 'there is no subject "%"', p_subject
            using errcode = 'WL018', hint = 'See which there are: select * from wakelog.subjects';
    end if;
    select * into strict v_subject from wakelog.subjects s where s.subject = p_subject for update;
    if v_subject.forgotten_at is not null then
        return false;
    end if;
    delete from wakelog.subject_keys k where k.subject_id = v_subject.id;
    update wakelog.subjects s set forgotten_at = clock_timestamp(), forgotten_by = session_user
    where s.subject = p_subject;
    perform wakelog.commit_durably();
    return true;
end
$$;
