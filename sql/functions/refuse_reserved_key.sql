-- Trigger: idempotency keys beginning with 'wakelog:' are those of agents' answers. Somebody else's event under
-- such a key would keep the answer from ever being told.
create or replace function wakelog.refuse_reserved_key() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_has_role(current_user, (select c.relowner from pg_class c where c.oid = tg_relid), 'member') then
        raise exception 'expected an idempotency key that does not begin with "wakelog:", found "%"',
            new.idempotency_key using errcode = 'WL006';
    end if;
    return new;
end
$$;
