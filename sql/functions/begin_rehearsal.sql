-- See to it that this transaction can only be rolled back: its commit fails, with constraint rehearsals_are_never_committed.
create or replace function wakelog.begin_rehearsal() returns void
language sql volatile
security definer
begin atomic
    insert into wakelog.rehearsals (fork) values ('');
end;
