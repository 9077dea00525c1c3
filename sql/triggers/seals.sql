-- Seals are made once.
create or replace trigger seals_refuse_change before update or delete on wakelog.seals
for each row execute function wakelog.refuse_change();

create or replace trigger seals_refuse_truncate before truncate on wakelog.seals
for each statement execute function wakelog.refuse_change();
