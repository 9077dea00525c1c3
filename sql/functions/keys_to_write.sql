-- The keys of subjects, for whoever appends something personal about them; a subject that is new gets one. They are
-- good for the caller's transaction: until it has ended, nobody can forget these subjects.
--
-- Raises WL017 for a subject that was forgotten: there will never be another key for it. A transaction that has begun
-- before the forgetting, at a higher isolation level, is told so by a serialization failure.
create or replace function wakelog.keys_to_write(p_subjects text[])
returns table (subject text, key_id bigint, key bytea)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
    v_subject wakelog.subjects;
begin
    -- In one order, so that two who write about the same ones never wait for each other.
    for v_name in select distinct n.name from unnest(p_subjects) as n (name) order by 1 loop
        select * into v_subject from wakelog.subjects s where s.subject = v_name for key share;
        if not found then
            insert into wakelog.subjects (subject) values (v_name) on conflict do nothing returning * into v_subject;
            if found then
                insert into wakelog.subject_keys values (v_subject.id, wakelog.new_key());
            else -- another transaction has just made it
                select * into strict v_subject from wakelog.subjects s where s.subject = v_name for key share;
            end if;
        end if;
        if v_subject.forgotten_at is not null then
            raise exception 'subject "%" was forgotten at %', v_name, to_char(
                v_subject.forgotten_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
                using errcode = 'WL017', hint = 'Nothing personal is kept of it any more. If it came back of its own '
                    'accord, write about it under a new name.';
        end if;
        return query select v_name, k.subject_id, k.key from wakelog.subject_keys k
                     where k.subject_id = v_subject.id;
    end loop;
end
$$;
