-- Trigger, once per insert statement: wake the doorkeeper, if it sleeps.
--
-- The beacon, one advisory lock, is held shared by every append until its transaction has ended, and
-- exclusively by the doorkeeper while it sleeps. Granted: nobody sleeps, and nobody will before this
-- transaction is visible. Refused: somebody does, so notify. A transaction that is going to be prepared
-- (two-phase commit) may not notify: it says set local wakelog.wake = 'off', and its events are found by
-- the doorkeeper's next look, within a second.
create or replace function wakelog.wake() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_try_advisory_xact_lock_shared(wakelog.lock_space('beacon'), 0)
       and current_setting('wakelog.wake', true) is distinct from 'off' then
        perform pg_notify('wakelog', '');
    end if;
    return null;
end
$$;
