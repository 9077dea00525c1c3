-- Trigger: xid is the inserting transaction's own, whatever the row says (a restored dump brings others).
create or replace function wakelog.own_transaction() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.xid := pg_current_xact_id();
    return new;
end
$$;
