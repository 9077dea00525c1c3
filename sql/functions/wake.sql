-- Trigger, for an insert statement that was refused the beacon: the doorkeeper sleeps, so notify it.
--
-- The beacon, one advisory lock, is held shared by every append until its transaction has ended, and
-- exclusively by the doorkeeper while it sleeps. Granted: nobody sleeps, and nobody will before this
-- transaction is visible. Refused: somebody does. A transaction that is going to be prepared (two-phase commit)
-- may not notify: it says set local wakelog.wake = 'off', and its events are found by the doorkeeper's next
-- look, within a second.
create or replace function wakelog.wake() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('wakelog.wake', true) is distinct from 'off' then
        perform pg_notify('wakelog', '');
    end if;
    return null;
end
$$;
