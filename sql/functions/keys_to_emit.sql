-- As wakelog.keys_to_write, for events whose ids go to wakelog.emit: what is encrypted is bound to its event's id. Where
-- the functions are of a build whose emit takes no ids this one is missing, and the answer is refused instead of lost.
create or replace function wakelog.keys_to_emit(p_subjects text[])
returns table (subject text, key_id bigint, key bytea)
language sql volatile
begin atomic
    select k.subject, k.key_id, k.key from wakelog.keys_to_write(p_subjects) k;
end;
